"""BentoML: a service of one worker; ``python -m bentoml serve`` starts it.

It runs in an environment of its own: see ``bentoml-requirements.txt`` beside this file.
"""

import bentoml

from benchmarks.serving_peers.forward import NAMES, answer, load


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Regression:
    def __init__(self) -> None:
        self.model = load()

    @bentoml.api
    def predict(self, rows: list[dict[str, float]]) -> dict[str, list[float]]:
        return {"predictions": answer(self.model, [[row[n] for n in NAMES] for row in rows])}
