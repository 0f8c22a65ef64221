"""One row a request: fitserve against other servers around the same forward pass.

One server process each, torch on one thread, access logs off, 16 keep-alive connections of ``wrk``
on loopback; an MLP 64-64 on 8 numbers that fitserve has trained. The others are sent the numbers
as fitserve standardises them, so fitserve does that and the way back besides. All servers are up,
one at a time is loaded, rounds alternate. Every answer is checked against the forward pass first,
and no answer may be other than 2xx. ``python -m benchmarks.serving [ROUNDS [SECONDS]]``.

Targets, in requests/s: at least 0.7 times the bare handler, 2 times FastAPI with pydantic, 4 times
LitServe and MLflow, 8 times BentoML; a 99th percentile no worse than any of theirs but the bare
handler's.
"""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from os import cpu_count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from app.ml.inference import card
from benchmarks.load import CONNECTIONS, NO_WRK, Endpoint, Peer, Round, cpu_seconds, has_wrk
from benchmarks.serving_peers import forward
from tests.support.server import Server, free_port

ROUNDS, SECONDS, WARM_SECONDS = 5, 5.0, 3.0
IDLE_SECONDS = 3.0
MODEL = "served"
ROW = [0.4967, -0.1383, 0.6477, 1.523, -0.2342, -0.2341, 1.5792, 0.7674]
BENTOML = Path(".venv-peers/bentoml/bin/python").absolute()
FITSERVE = {"FITSERVE_LOG_LEVEL": "warning", "FITSERVE_DEFAULT_MODEL": MODEL}


@dataclass(frozen=True)
class Kind:
    """A server to compare with."""

    name: str
    module: str
    target: float
    """fitserve's requests/s at least so many times its."""
    needs: str = "torch"
    path: str = "/predict"
    may_be_quicker: bool = False

    def missing(self) -> str | None:
        """How to get it, if it is not installed."""
        if self.module == "by_bentoml":
            return None if BENTOML.exists() else "make bench installs it beside .venv"
        return None if find_spec(self.needs) else "pip install -c constraints.txt -e '.[serving]'"

    def command(self, port: int) -> list[str]:
        where = f"benchmarks.serving_peers.{self.module}"
        if self.module != "by_bentoml":
            return [sys.executable, "-m", where]
        options = ["--host", "127.0.0.1", "--port", str(port)]
        return [str(BENTOML), "-m", "bentoml", "serve", f"{where}:Regression", *options]


KINDS = (
    Kind("bare handler", "bare", 0.7, may_be_quicker=True),
    Kind("FastAPI", "by_fastapi", 2),
    Kind("LitServe", "by_litserve", 4, "litserve"),
    Kind("MLflow", "by_mlflow", 4, "mlflow", "/invocations"),
    Kind("BentoML", "by_bentoml", 8),
)


# ---------------------------------------------------------------- the servers


def train(server: Server) -> str:
    """The id of the model that all of them serve."""
    source = {"kind": "synthetic", "generator": "regression", "rows": 2000, "seed": 3}
    source |= {"features": 8, "informative": 8}
    server.ok("POST", "/v1/datasets", json={"name": "regression", "source": source})
    spec: dict[str, Any] = {"dataset": "regression", "target": "y", "register_as": MODEL}
    server.train(**spec, model={"kind": "mlp", "hidden": [64, 64]}, epochs=20)
    return str(server.ok("GET", f"/v1/models/{MODEL}")["id"])


class Answers:
    """The right answers, by the downloaded weights and fitserve's own preprocessing."""

    def __init__(self, server: Server, model_id: str, weights: Path) -> None:
        weights.write_bytes(server.client.get(f"/v1/models/{MODEL}/download").content)
        preprocessing = card.read(server.data_dir / "models" / model_id).preprocessing
        table = pa.table({name: [value] for name, value in zip(forward.NAMES, ROW, strict=True)})
        encoded = preprocessing.features.encode(table)
        model = forward.load(str(weights))
        decoded: Any = preprocessing.target
        outputs = forward.answer(model, encoded.tolist())
        self.fitserve = float(decoded.decode(encoded[:, :1] * 0 + outputs[0])[0, 0])
        self.standardised = [round(float(value), 4) for value in encoded[0]]
        (self.peers,) = forward.answer(model, [self.standardised])


def body_of(kind: Kind, row: list[float]) -> bytes:
    named = dict(zip(forward.NAMES, row, strict=True))
    if kind.module == "by_mlflow":
        return orjson.dumps({"dataframe_records": [named]})
    return orjson.dumps({"rows": [named]})


def of_fitserve(server: Server, console: Console) -> Iterator[Endpoint]:
    """Its ways to ask for a prediction; those that it does not have are named."""
    rows = orjson.dumps({"rows": [dict(zip(forward.NAMES, ROW, strict=True))]})
    tensor = {"name": "input", "datatype": "FP64", "shape": [1, 8], "data": ROW}
    frame = {"dataframe_records": [dict(zip(forward.NAMES, ROW, strict=True))]}
    for name, path, body in (
        ("fitserve", f"/v1/models/{MODEL}/predict", rows),
        ("fitserve, /v2", f"/v2/models/{MODEL}/infer", orjson.dumps({"inputs": [tensor]})),
        ("fitserve, /invocations", "/invocations", orjson.dumps(frame)),
    ):
        endpoint = Endpoint(name, server.url + path, body, server.process.pid)
        if endpoint.ask().status_code == 404:
            console.print(f"{name}: not there (404); skipped")
        else:
            yield endpoint


@contextmanager
def started(console: Console, folder: Path) -> Iterator[tuple[Server, list[Endpoint]]]:
    """Every server that is installed, each with its answer checked."""
    weights = folder / "weights.safetensors"
    with ExitStack() as stack:
        server = stack.enter_context(Server(folder / "data", **FITSERVE))
        right = Answers(server, train(server), weights)
        endpoints = list(of_fitserve(server, console))
        for endpoint in endpoints:
            check(endpoint, right.fitserve)
        for kind in KINDS:
            if (missing := kind.missing()) is not None:
                console.print(f"{kind.name}: not installed ({missing}); skipped")
                continue
            endpoint = start(stack, kind, folder, weights, body_of(kind, right.standardised))
            check(endpoint, right.peers)
            endpoints.append(endpoint)
        yield server, endpoints


def start(stack: ExitStack, kind: Kind, folder: Path, weights: Path, body: bytes) -> Endpoint:
    port = free_port()
    environment = {
        "SERVING_WEIGHTS": str(weights),
        "SERVING_PORT": str(port),
        "SERVING_FOLDER": str(folder),
        "OMP_NUM_THREADS": "1",
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    log = folder / f"{kind.module}.log"
    peer = stack.enter_context(Peer(kind.command(port), log, **environment))
    url = f"http://127.0.0.1:{port}{kind.path}"
    endpoint = Endpoint(kind.name, url, body, peer.process.pid)
    peer.wait(endpoint)
    return endpoint


def check(endpoint: Endpoint, right: float) -> None:
    """Raise unless it answers what the forward pass says."""
    found = endpoint.prediction()
    close = abs(found - right) <= 1e-4 * max(1.0, abs(right))
    assert close, f"{endpoint.name} says {found}, the forward pass {right}"


# ---------------------------------------------------------------- measuring


def idle(endpoints: list[Endpoint], console: Console) -> None:
    """Say who uses a core's time while nobody asks: it slows the others' rounds."""
    pids = {endpoint.pid: endpoint.name for endpoint in endpoints[::-1]}
    before = {pid: cpu_seconds(pid) for pid in pids}
    time.sleep(IDLE_SECONDS)
    for pid, name in pids.items():
        spent = sum(now - before[pid].get(child, 0.0) for child, now in cpu_seconds(pid).items())
        if spent > 0.01 * IDLE_SECONDS:
            console.print(f"{name} uses {100 * spent / IDLE_SECONDS:.0f}% of a core when idle")


def measure(
    endpoints: list[Endpoint], folder: Path, rounds: int, seconds: float
) -> dict[str, list[Round]]:
    """Rounds of each by name; who is first changes from turn to turn."""
    for endpoint in endpoints:
        endpoint.load(folder, WARM_SECONDS)
    found: dict[str, list[Round]] = {endpoint.name: [] for endpoint in endpoints}
    for turn in range(rounds):
        first = turn % len(endpoints)
        for endpoint in endpoints[first:] + endpoints[:first]:
            found[endpoint.name].append(endpoint.load(folder, seconds))
    return found


def show(found: dict[str, list[Round]], console: Console) -> None:
    """Medians, and fitserve's requests/s by each server's, as the median of the rounds' ratios."""
    ours = found["fitserve"]
    table = Table(
        title=f"One row a request, {CONNECTIONS} connections, {len(ours)} rounds (medians)"
    )
    columns = ("", "requests/s", "p50 ms", "p99 ms", "CPU ms", "ratio", "target")
    for column in columns:
        table.add_column(column, justify="left" if not column else "right")
    targets = {kind.name: kind.target for kind in KINDS}
    for name, rounds in found.items():
        cells = [f"{median(r.per_second for r in rounds):,.0f}"]
        cells += [f"{median(r.p50_ms for r in rounds):.2f}"]
        cells += [f"{median(r.p99_ms for r in rounds):.2f}"]
        cells += [f"{median(r.cpu_ms for r in rounds):.3f}"]
        pairs = zip(ours, rounds, strict=True)
        ratio = median(mine.per_second / its.per_second for mine, its in pairs)
        target = targets.get(name)
        table.add_row(name, *cells, f"{ratio:.2f}", "" if target is None else judged(ratio, target))
    console.print(table)
    tails = {name: median(r.p99_ms for r in rounds) for name, rounds in found.items()}
    kept = [kind.name for kind in KINDS if kind.name in tails and not kind.may_be_quicker]
    better = [name for name in kept if tails[name] < tails["fitserve"]]
    console.print(f"a better p99 than fitserve's: {', '.join(better) or 'none'} (target: none)\n")


def beside_training(
    server: Server, endpoint: Endpoint, folder: Path, rounds: int, seconds: float, console: Console
) -> None:
    """The same load while as many jobs train as there are cores: they go behind predictions."""
    server.line()
    jobs = [server.start_long_job() for _ in range(cpu_count() or 1)]
    found = [endpoint.load(folder, seconds) for _ in range(rounds)]
    for job in jobs:
        server.ok("POST", f"/v1/jobs/{job}/cancel")
    quick = median(r.per_second for r in found)
    tail = median(r.p99_ms for r in found)
    console.print(
        f"while {len(jobs)} jobs train: {quick:,.0f} requests/s, p99 {tail:.2f} ms "
        f"(medians of {rounds} rounds)\n"
    )


def judged(ratio: float, target: float) -> str:
    return f"{target:g} {'met' if ratio >= target else 'missed'}"


def main(rounds: int = ROUNDS, seconds: float = SECONDS) -> None:
    """Start all, check all, alternate."""
    console = Console()
    if not has_wrk():
        console.print(NO_WRK)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every server ends with it
    with TemporaryDirectory() as name, started(console, Path(name)) as (server, endpoints):
        idle(endpoints, console)
        show(measure(endpoints, Path(name), rounds, seconds), console)
        beside_training(server, endpoints[0], Path(name), rounds, seconds, console)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(*map(int, arguments[:1]), *map(float, arguments[1:2]))
