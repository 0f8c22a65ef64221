"""One row a request: fitserve against other servers around the same forward pass.

One server process each, torch on one thread, access logs off but fitserve's, 16 keep-alive
connections of ``wrk`` on loopback; an MLP 64-64 on 8 numbers that fitserve has trained. The others
are sent the numbers as fitserve standardises them, so fitserve does that and the way back besides.
All servers are up, one at a time is loaded, rounds alternate. Every answer is checked against the
forward pass first, and no answer may be other than 2xx.

Targets, in requests/s: at least 0.8 times the bare handler, 2 times FastAPI with pydantic, 4 times
LitServe and MLflow, 8 times BentoML; a 99th percentile no worse than any of theirs but the bare
handler's.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pyarrow as pa

from app.ml.inference import card
from benchmarks.harness import Scale, console, has_module, has_peer, rounds, running_server, table
from benchmarks.load import CONNECTIONS, Endpoint, Peer, Round, idle_cores, require_wrk
from benchmarks.serving_peers import forward
from tests.support.server import Server, free_port

MODEL = "served"
ROW = [0.4967, -0.1383, 0.6477, 1.523, -0.2342, -0.2341, 1.5792, 0.7674]
NAMED_ROW = dict(zip(forward.NAMES, ROW, strict=True))
BENTOML = Path(".venv-peers/bentoml").absolute()
"""Its environment; ``make`` leaves ``.ready`` in it once it is whole."""
FITSERVE = {"FITSERVE_DEFAULT_MODEL": MODEL}


@dataclass(frozen=True)
class Size:
    rounds: int
    seconds: float
    """Of one round of load."""
    warm_seconds: float
    idle_seconds: float


SIZES = {
    Scale.FULL: Size(rounds=5, seconds=5, warm_seconds=3, idle_seconds=3),
    Scale.QUICK: Size(rounds=2, seconds=1, warm_seconds=0.5, idle_seconds=1),
    Scale.TINY: Size(rounds=1, seconds=0.2, warm_seconds=0.1, idle_seconds=0.2),
}


@dataclass(frozen=True)
class Kind:
    """A server to compare with."""

    name: str
    module: str
    target: float
    """fitserve's requests/s at least so many times its."""
    needs: str = "torch"
    """The package that has it."""
    path: str = "/predict"
    may_be_quicker: bool = False
    """Whether its 99th percentile may be below fitserve's."""

    def is_installed(self, scale: Scale) -> bool:
        """Return whether it can be started; otherwise as ``harness.has_peer``. A tiny round has
        those that import nothing but torch."""
        if scale is Scale.TINY and self.needs != "torch":
            return False
        if self.needs == "bentoml":
            return has_peer(scale, self.needs, found=(BENTOML / ".ready").exists())
        return has_module(scale, self.needs)

    def command(self, port: int) -> list[str]:
        where = f"benchmarks.serving_peers.{self.module}"
        if self.needs != "bentoml":
            return [sys.executable, "-m", where]
        options = ["--host", "127.0.0.1", "--port", str(port)]
        return [
            str(BENTOML / "bin" / "python"),
            "-m",
            "bentoml",
            "serve",
            f"{where}:Regression",
            *options,
        ]


KINDS = (
    Kind("bare handler", "bare", 0.8, may_be_quicker=True),
    Kind("FastAPI", "by_fastapi", 2),
    Kind("LitServe", "by_litserve", 4, "litserve"),
    Kind("MLflow", "by_mlflow", 4, "mlflow", "/invocations"),
    Kind("BentoML", "by_bentoml", 8, "bentoml"),
)


# ---------------------------------------------------------------- the servers


def train(server: Server) -> str:
    """Train the model that all of them serve; return its id."""
    source = {"kind": "synthetic", "generator": "regression", "rows": 2000, "seed": 3}
    source |= {"features": 8, "informative": 8}
    server.ok(
        "POST", "/v1/datasets", json={"name": "regression", "source": source, "replace": True}
    )
    spec: dict[str, Any] = {"dataset": "regression", "target": "y", "register_as": MODEL}
    server.train(**spec, model={"kind": "mlp", "hidden": [64, 64]}, epochs=20)
    return str(server.ok("GET", f"/v1/models/{MODEL}")["id"])


class Answers:
    """The right answers, by the downloaded weights and fitserve's own preprocessing."""

    def __init__(self, server: Server, model_id: str, weights: Path) -> None:
        weights.write_bytes(server.client.get(f"/v1/models/{MODEL}/download").content)
        preprocessing = card.read(server.data_dir / "models" / model_id).preprocessing
        encoded = preprocessing.features.encode(pa.Table.from_pylist([NAMED_ROW]))
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


def of_fitserve(server: Server) -> list[Endpoint]:
    """Return its ways to ask for a prediction."""
    tensor = {"name": "input", "datatype": "FP64", "shape": [1, len(ROW)], "data": ROW}
    return [
        Endpoint(name, server.url + path, orjson.dumps(body), server.process.pid)
        for name, path, body in (
            ("fitserve", f"/v1/models/{MODEL}/predict", {"rows": [NAMED_ROW]}),
            ("fitserve, /v2", f"/v2/models/{MODEL}/infer", {"inputs": [tensor]}),
            ("fitserve, /invocations", "/invocations", {"dataframe_records": [NAMED_ROW]}),
        )
    ]


@contextmanager
def started(scale: Scale, folder: Path) -> Iterator[tuple[Server, list[Endpoint]]]:
    """Start every server, each with its answer checked; stop them in the end."""
    weights = folder / "weights.safetensors"
    kinds = [kind for kind in KINDS if kind.is_installed(scale)]
    with ExitStack() as stack:
        server = stack.enter_context(running_server(scale, **FITSERVE))
        right = Answers(server, train(server), weights)
        endpoints = of_fitserve(server)
        for endpoint in endpoints:
            check(endpoint, right.fitserve)
        for kind in kinds:
            endpoint = start(stack, kind, folder, weights, body_of(kind, right.standardised))
            check(endpoint, right.peers)
            endpoints.append(endpoint)
        yield server, endpoints


def start(stack: ExitStack, kind: Kind, folder: Path, weights: Path, body: bytes) -> Endpoint:
    """Start one server to compare with, and wait until it answers."""
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


def idle(endpoints: list[Endpoint], seconds: float) -> None:
    """Print who uses a core's time while nobody asks: it slows the others' rounds."""
    names = {endpoint.pid: endpoint.name for endpoint in endpoints[::-1]}
    shares = idle_cores([*names], seconds)
    for name, share in zip(names.values(), shares, strict=True):
        if share > 0.01:
            console.print(f"{name} uses {100 * share:.0f}% of a core when idle")


def measure(endpoints: list[Endpoint], folder: Path, size: Size) -> dict[str, list[Round]]:
    """Return the rounds of each by its name; who is first changes from turn to turn."""
    for endpoint in endpoints:
        endpoint.load(folder, size.warm_seconds)
    found: dict[str, list[Round]] = {endpoint.name: [] for endpoint in endpoints}
    for turn in rounds(size.rounds, f"{len(endpoints)} servers"):
        first = turn % len(endpoints)
        for endpoint in endpoints[first:] + endpoints[:first]:
            found[endpoint.name].append(endpoint.load(folder, size.seconds))
    return found


def show(found: dict[str, list[Round]]) -> None:
    """Print medians, and the median of the rounds' ratios of fitserve's requests/s to each."""
    ours = found["fitserve"]
    rows = table(
        f"One row a request, {CONNECTIONS} connections, {len(ours)} rounds (medians)",
        *("", "requests/s", "p50 ms", "p99 ms", "CPU ms", "ratio", "target"),
    )
    targets = {kind.name: kind.target for kind in KINDS}
    for name, theirs in found.items():
        cells = [f"{median(r.per_second for r in theirs):,.0f}"]
        cells += [f"{median(r.p50_ms for r in theirs):.2f}"]
        cells += [f"{median(r.p99_ms for r in theirs):.2f}"]
        cells += [f"{median(r.cpu_ms for r in theirs):.3f}"]
        pairs = zip(ours, theirs, strict=True)
        ratio = median(mine.per_second / its.per_second for mine, its in pairs)
        target = targets.get(name)
        rows.add_row(name, *cells, f"{ratio:.2f}", "" if target is None else judged(ratio, target))
    console.print(rows)
    tails = {name: median(r.p99_ms for r in theirs) for name, theirs in found.items()}
    slower = [kind.name for kind in KINDS if kind.name in tails and not kind.may_be_quicker]
    better = [name for name in slower if tails[name] < tails["fitserve"]]
    console.print(f"a better p99 than fitserve's: {', '.join(better) or 'none'} (target: none)")


def judged(ratio: float, target: float) -> str:
    return f"{target:g} {'met' if ratio >= target else 'missed'}"


def beside_training(server: Server, endpoint: Endpoint, folder: Path, size: Size) -> None:
    """Load it while as many jobs train as there are cores: they go behind predictions."""
    server.line()
    jobs = [server.start_long_job() for _ in range(cpu_count() or 1)]
    found = [endpoint.load(folder, size.seconds) for _ in range(size.rounds)]
    for job in jobs:
        server.ok("POST", f"/v1/jobs/{job}/cancel")
    per_second = median(r.per_second for r in found)
    p99_ms = median(r.p99_ms for r in found)
    console.print(
        f"while {len(jobs)} jobs train: {per_second:,.0f} requests/s, p99 {p99_ms:.2f} ms "
        f"(medians of {size.rounds} rounds)"
    )


def run(scale: Scale) -> None:
    """Start and check all, alternate, then load fitserve beside jobs that train."""
    size = SIZES[scale]
    require_wrk(scale)
    with TemporaryDirectory() as name, started(scale, Path(name)) as (server, endpoints):
        idle(endpoints, size.idle_seconds)
        show(measure(endpoints, Path(name), size))
        beside_training(server, endpoints[0], Path(name), size)
