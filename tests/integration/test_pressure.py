"""What must not keep anybody else waiting: slow senders, a lock, a log, and answers."""

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.server import PATIENCE, QUICK_JOB, Server, problem
from tests.support.soak import rounds, soak_only

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one model, whose idle connections are soon closed."""
    folder = tmp_path_factory.mktemp("pressure") / "data"
    with Server(folder, FITSERVE_KEEP_ALIVE="2", FITSERVE_LOG_FORMAT="json") as running:
        running.line()
        running.train(**QUICK_JOB, register_as="line")
        yield running


class Crowd:
    """Connections that say something once and then are asked for little."""

    def __init__(self, server: Server, count: int, said: bytes) -> None:
        self._port = server.port
        self.sockets: list[socket.socket] = []
        for _ in range(count):
            self.add(said)

    def add(self, said: bytes) -> None:
        """One more of them."""
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
        self.sockets.append(connection)
        connection.sendall(said)

    def drip(self, more: bytes) -> None:
        for each in self.sockets:
            try:
                each.sendall(more)
            except ConnectionError:
                continue

    def answers(self) -> list[bytes]:
        """What each was answered until its connection ended."""
        return [_to_the_end(each) for each in self.sockets]

    def close(self) -> None:
        for each in self.sockets:
            each.close()


def _to_the_end(connection: socket.socket) -> bytes:
    text = b""
    try:
        while piece := connection.recv(65_536):
            text += piece
    except ConnectionError:
        pass
    return text


def predicts(server: Server) -> None:
    """Somebody else is served."""
    server.ok("POST", "/v1/models/line/predict", json={"rows": [{"x": 0.5}]})
    assert server.client.get("/livez").status_code == 200


# ---------------------------------------------------------------- before the application


def test_who_says_nothing_is_closed_after_the_setting(server: Server) -> None:
    with closing(Crowd(server, rounds(30, 300), b"")) as silent:
        predicts(server)
        assert set(silent.answers()) == {b""}


def test_a_header_of_40_mib_is_refused_and_not_kept(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    for begins, status in ((b"GET /?", b"414"), (b"GET / HTTP/1.1\r\na: ", b"431")):
        with closing(Crowd(server, 3, begins)) as crowd:
            for _ in range(40):
                crowd.drip(b"v" * MIB)
            assert all(b"problem+json" in text for text in crowd.answers() if text)
        assert server.logged(f'"status":{status.decode()}')
    predicts(server)
    assert process.memory_info().rss - before < 32 * MIB


@soak_only
@pytest.mark.parametrize(
    "said",
    [
        b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ",
        b"POST /v1/datasets HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: text/csv\r\n"
        b"idempotency-key: dripped\r\ncontent-length: 1000000\r\n\r\n",
    ],
    ids=["headers", "bodies"],
)
def test_who_drips_is_told_408_in_time(server: Server, said: bytes) -> None:
    with closing(Crowd(server, 300, said)) as crowd:
        until = time.monotonic() + 75
        while time.monotonic() < until:
            crowd.drip(b"a")
            predicts(server)
            time.sleep(1)
        answers = [text for text in crowd.answers() if text]
        assert sum(b" 408 " in text for text in answers) == (300 if b"GET" in said else 1)
    headers = {"Content-Type": "text/csv", "Idempotency-Key": "dripped"}
    server.ok("POST", "/v1/datasets", content=b"a,b\n1,2\n", headers=headers)


def test_a_key_whose_sender_left_is_free_again(server: Server) -> None:
    said = (
        b"POST /v1/jobs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"idempotency-key: left\r\ncontent-length: 1000\r\n\r\n{"
    )
    with closing(Crowd(server, 1, said)):
        predicts(server)
    server.ok("POST", "/v1/jobs", json=QUICK_JOB, headers={"Idempotency-Key": "left"})


# ---------------------------------------------------------------- a lock


def test_another_process_that_holds_sqlite_s_lock_keeps_nobody_from_reading(
    server: Server,
) -> None:
    job = {**QUICK_JOB, "dataset": "line"}
    path = server.data_dir / "fitserve.db"
    many = rounds(60, 300)
    with closing(sqlite3.connect(path, isolation_level=None)) as other, ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(many))
        other.execute("BEGIN IMMEDIATE")
        write = partial(httpx.post, f"{server.url}/v1/jobs", verify=False, timeout=90)
        writes = [pool.submit(write, json=job, trust_env=False) for _ in range(many)]
        until = time.monotonic() + rounds(2, 50)
        while time.monotonic() < until:
            assert server.client.get("/readyz").status_code == 200
            assert server.client.get("/v1/jobs").status_code == 200
            predicts(server)
        waiting = [answer for answer in writes if not answer.done()]
        assert len(waiting) <= 1  # one of them goes on trying
        for answer in writes:
            if answer.done():
                refused = problem(answer.result(), 503, "unavailable")
                assert "lock" in refused["detail"]
                assert int(answer.result().headers["retry-after"]) > 0
        before = {*(server.data_dir / "datasets").iterdir()}
        source = {"kind": "synthetic", "generator": "line"}
        made = server.client.post("/v1/datasets", json={"source": source})
        problem(made, 503, "unavailable")
        assert {*(server.data_dir / "datasets").iterdir()} == before, "it was never begun"
        other.execute("ROLLBACK")
        for answer in waiting:
            assert answer.result().status_code in (202, 503)
    server.train(**job)
    assert '"status":500' not in server.log.read_text()


# ---------------------------------------------------------------- the log


def _ids(lines: list[str], style: str) -> list[str]:
    if style == "json":
        parsed = [json.loads(line) for line in lines]
        assert {p["event"] for p in parsed} == {"request"}
        return [p["request_id"] for p in parsed]
    return [line.rpartition("request_id=")[2] for line in lines]


@pytest.mark.parametrize("style", ["console", "json", "off"])
def test_every_request_has_its_line_when_the_server_ends(data_dir: Path, style: str) -> None:
    name, value = ("ACCESS_LOG", "off") if style == "off" else ("LOG_FORMAT", style)
    with Server(data_dir, **{f"FITSERVE_{name}": value}) as server:
        ids = [f"request-{i}" for i in range(rounds(400, 5000))]
        for name in ids:
            server.client.get("/livez", headers={"X-Request-Id": name})
        odd = server.client.get("/odd%0Apath%20%1b[31m", headers={"X-Request-Id": "odd"})
        assert odd.status_code == 404
        assert server.terminate()[0] == 0
        lines = [line for line in server.log.read_text().splitlines() if "request_id" in line]
    if style == "off":
        assert not lines
        return
    found = [name for name in _ids(lines, style) if name in {*ids, "odd"}]
    assert found == [*ids, "odd"]
    assert "\x1b[31m" not in "".join(lines)
    assert all("200" in line and "/livez" in line for line in lines if "request-" in line)


# ---------------------------------------------------------------- plots


def _drawn(server: Server) -> float:
    """CPU seconds of the processes that draw, which are waited for as they end."""
    (drawing,) = server.forkservers("plotting")
    times = drawing.cpu_times()
    return float(times.children_user + times.children_system)


def test_a_plot_is_drawn_once_for_all_who_ask(server: Server) -> None:
    job = server.ok("GET", "/v1/models/line")["job"]
    path = f"/v1/jobs/{job['id'] if isinstance(job, dict) else job}/plots/residuals.png"
    server.client.get(path.replace("residuals", "loss"))  # starts what draws
    before = _drawn(server)
    first = server.client.get(path.replace("png", "svg"))
    one = _drawn(server) - before
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(server.client.get, [path] * 24))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert _drawn(server) - before < one * 6
    tag = answers[0].headers["etag"]
    assert tag.startswith('"')
    assert tag != first.headers["etag"]
    again = server.client.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_the_plot_of_a_job_that_trains_goes_on_with_it(server: Server) -> None:
    job = server.start_long_job()
    path = f"/v1/jobs/{job}/plots/loss.png"
    tag = server.client.get(path).headers["etag"]
    done = server.ok("GET", f"/v1/jobs/{job}")["progress"]["epoch"]
    server.until(job, lambda found: found["progress"]["epoch"] > done)
    newer = server.client.get(path, headers={"If-None-Match": tag})
    assert newer.status_code == 200
    assert newer.headers["etag"] != tag
    server.ok("POST", f"/v1/jobs/{job}/cancel")


@soak_only
def test_no_more_plots_wait_than_may(server: Server) -> None:
    columns = {f"c{i}": [float((i * k) % 7) for k in range(20)] for i in range(9)}
    made = server.ok(
        "POST", "/v1/datasets", json={"source": {"kind": "inline", "columns": columns}}
    )
    pairs = [(x, y) for x in columns for y in columns]
    path = f"/v1/datasets/{made['id']}/plots/scatter.png"

    def ask(pair: tuple[str, str]) -> int:
        answer = server.client.get(path, params={"x": pair[0], "y": pair[1]})
        if answer.status_code == 429:
            problem(answer, 429, "too_many_requests")
            assert answer.headers["retry-after"]
        return answer.status_code

    with ThreadPoolExecutor(len(pairs)) as pool:
        answers = pool.map(ask, pairs)
        for _ in range(20):
            predicts(server)
        assert set(answers) == {200, 429}
    assert ask(pairs[-1]) == 200


def test_equal_pictures_have_equal_bytes(server: Server, tmp_path: Path) -> None:
    """What an ETag promises, also where one of them was drawn by another server."""
    path = "/v1/datasets/line/plots/scatter.svg"
    first = server.client.get(path)
    with Server(tmp_path / "data") as other:
        other.line()
        assert other.client.get(path).content == first.content


# ---------------------------------------------------------------- answers


def _peak(process: psutil.Process) -> int:
    """The most memory that a process has had since it was last asked, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return int(peak.split()[1]) * 1024


def test_an_answer_of_rows_is_bounded_and_so_is_what_it_takes(
    server: Server, tmp_path: Path
) -> None:
    wide = pa.table({f"column {i}": np.arange(10_000) / 7 for i in range(rounds(300, 600))})
    long = pa.table({"n": np.arange(8), "t": ["a" * 7 * MIB] * 8})
    process = psutil.Process(server.process.pid)
    for table in (wide, long):
        path = tmp_path / "table.parquet"
        pq.write_table(table, path)
        headers = {"Content-Type": "application/vnd.apache.parquet"}
        made = server.ok("POST", "/v1/datasets", content=path.read_bytes(), headers=headers)
        rows = f"/v1/datasets/{made['id']}/rows"
        server.client.get(rows, params={"limit": "1"})
        before = process.memory_info().rss
        _peak(process)
        refused = server.client.get(rows, params={"limit": "10000"})
        detail = problem(refused, 413, "too_large")
        assert detail["errors"][0]["pointer"] == "/limit"
        assert _peak(process) - before < 64 * MIB
        few = server.ok("GET", rows, params={"limit": "1", "offset": "5"})
        assert few["rows"] == table.slice(5, 1).to_pylist()
        assert few["total"] == table.num_rows


# ---------------------------------------------------------------- crowds


class Meanwhile:
    """Somebody who predicts and looks whether the server lives, until the block ends."""

    def __init__(self, server: Server) -> None:
        self._server, self._stop = server, threading.Event()
        self.seconds: list[float] = []
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        body = {"rows": [{"x": 0.5}]}
        with httpx.Client(base_url=self._server.url, trust_env=False, timeout=PATIENCE) as client:
            while not self.seconds or not self._stop.is_set():
                for ask in (
                    partial(client.get, "/livez"),
                    partial(client.post, "/v1/models/line/predict", json=body),
                ):
                    started = time.monotonic()
                    assert ask().status_code == 200
                    self.seconds.append(time.monotonic() - started)
                time.sleep(0.01)

    def __enter__(self) -> "Meanwhile":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self.seconds
        slowest = sorted(self.seconds)
        print(f"{len(slowest)} requests, p99 {slowest[len(slowest) * 99 // 100]:.3f} s")


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


def _head(connection: socket.socket) -> bytes:
    """The start of an answer, of which no more is taken."""
    return connection.recv(12)


def test_downloads_that_nobody_takes_hold_up_nobody(server: Server, tmp_path: Path) -> None:
    table = pa.table({f"c{i}": np.random.default_rng(i).random(200_000) for i in range(10)})
    pq.write_table(table, tmp_path / "table.parquet")
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    content = (tmp_path / "table.parquet").read_bytes()
    made = server.ok("POST", "/v1/datasets", content=content, headers=headers)
    path = f"/v1/datasets/{made['id']}/content"
    process = psutil.Process(server.process.pid)
    with server.client.stream("GET", path) as one:  # what the first download loads
        one.read()
    predicts(server)
    before = process.memory_info().rss
    with closing(Crowd(server, rounds(40, 120), _get(path))) as crowd:
        with Meanwhile(server):
            heads = [_head(each) for each in crowd.sockets]
        assert {*heads} == {b"HTTP/1.1 200", b"HTTP/1.1 429"}
        assert heads.count(b"HTTP/1.1 200") == 6
        assert process.memory_info().rss - before < 64 * MIB
    until = time.monotonic() + PATIENCE
    while server.client.get(path).status_code == 429:  # they have left, and it is soon known
        assert time.monotonic() < until


def test_a_crowd_that_waits_or_streams_holds_up_nobody(server: Server) -> None:
    job = server.start_long_job()
    waits = Crowd(server, rounds(150, 1500), _get(f"/v1/jobs/{job}?wait=60"))
    streams = Crowd(server, rounds(100, 1000), _get(f"/v1/jobs/{job}/stream"))
    with closing(waits), closing(streams), Meanwhile(server):
        assert {_head(each) for each in streams.sockets} == {b"HTTP/1.1 200"}
        server.ok("POST", f"/v1/jobs/{job}/cancel")
        assert {_head(each) for each in waits.sockets} == {b"HTTP/1.1 200"}
        assert all(b"event: done" in text for text in streams.answers())


@soak_only
def test_correlations_hold_up_nobody(server: Server, tmp_path: Path) -> None:
    table = pa.table({f"c{i}": np.random.default_rng(i).random(30_000) for i in range(30)})
    pq.write_table(table, tmp_path / "table.parquet")
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    content = (tmp_path / "table.parquet").read_bytes()
    made = [
        server.ok("POST", "/v1/datasets", content=content, headers=headers)["id"] for _ in range(45)
    ]
    with closing(Crowd(server, 0, b"")) as crowd, Meanwhile(server):
        for name in made:
            crowd.add(_get(f"/v1/datasets/{name}/plots/correlation.png"))
        assert {_head(each) for each in crowd.sockets} <= {b"HTTP/1.1 200", b"HTTP/1.1 429"}
