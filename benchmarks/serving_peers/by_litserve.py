"""LitServe: a ``LitAPI``, one API server, one worker on the CPU."""

from typing import Any

import litserve

from benchmarks.serving_peers.forward import NAMES, PORT, answer, load


class Regression(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = load()

    def decode_request(self, request: dict[str, Any]) -> list[list[float]]:
        return [[row[name] for name in NAMES] for row in request["rows"]]

    def predict(self, rows: list[list[float]]) -> list[float]:
        return answer(self.model, rows)

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        return {"predictions": output}


if __name__ == "__main__":
    server = litserve.LitServer(Regression(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=PORT,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
