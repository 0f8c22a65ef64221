"""Files made to harm: each is refused, leaves nothing, and the server stays small and answering."""

import contextlib
import gzip
import io
import pickle
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.support.server import PATIENCE, Server, problem

CSV, NDJSON = "text/csv", "application/x-ndjson"
PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has read a file, so that its own growth is what is measured."""
    with Server(tmp_path_factory.mktemp("hostile") / "data") as running:
        running.client.post("/v1/datasets", content=b"a\n1\n", headers={"Content-Type": CSV})
        yield running


def parquet_bomb() -> bytes:
    """200 million zeros: 1.6 GB in some kilobytes."""
    sink = io.BytesIO()
    table = pa.table({"a": np.zeros(5_000_000, np.int64)})
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        for _ in range(40):
            writer.write_table(table, row_group_size=5_000_000)
    return sink.getvalue()


def dictionary_bomb() -> bytes:
    """One string of 20 MB that stands in 1,000 rows: 20 GB if it were written out."""
    sink = io.BytesIO()
    column = pa.DictionaryArray.from_arrays(np.zeros(1000, np.int32), ["x" * 20_000_000])
    pq.write_table(pa.table({"a": column}), sink, compression="zstd", write_statistics=False)
    return sink.getvalue()


def gzip_bomb() -> bytes:
    """500 MB of zeros."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb") as packed:
        packed.write(b"a\n")
        for _ in range(500):
            packed.write(bytes(1_000_000))
    return sink.getvalue()


def arrow_stream(column: Any, compression: str | None = None, times: int = 1) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"a": column})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        for _ in range(times):
            writer.write_table(table)
    return sink.getvalue()


def parquet(column: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": column}), sink)
    return sink.getvalue()


def npy() -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.zeros(10))
    return sink.getvalue()


def pt() -> bytes:
    sink = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, sink)
    return sink.getvalue()


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.csv", "a\n1\n")
        archive.writestr("b.csv", "b\n1\n")
    return sink.getvalue()


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (eval, ("__import__('os').system('touch /tmp/fitserve-was-here')",))


def uuids() -> pa.Array:
    values = pa.array([bytes(range(16))] * 3, pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), values)


CASES: dict[str, tuple[Any, str, int, str]] = {
    "parquet bomb": (parquet_bomb, PARQUET, 413, "decodes to more"),
    "dictionary bomb": (dictionary_bomb, PARQUET, 422, "8 MiB"),
    "gzip bomb": (gzip_bomb, CSV, 413, "decodes to more"),
    "arrow bomb": (lambda: arrow_stream(np.zeros(60_000_000), "zstd"), ARROW, 413, "decodes"),
    "pickle": (lambda: pickle.dumps(Bomb()), CSV, 415, "pickle"),
    "pickle as parquet": (lambda: pickle.dumps(Bomb()), PARQUET, 415, "pickle"),
    "pt": (pt, CSV, 415, "zip"),
    "npy": (npy, NDJSON, 415, "NumPy"),
    "zip": (zipped, CSV, 415, "zip"),
    "octets": (pt, "application/octet-stream", 415, "text/csv"),
    "parquet as csv": (lambda: parquet([1]), CSV, 415, "parquet"),
    "csv as parquet": (lambda: b"a,b\n1,2\n", PARQUET, 422, "Parquet"),
    "gzip parquet": (lambda: gzip.compress(parquet([1])), PARQUET, 415, "gzip"),
    "extension in parquet": (lambda: parquet(uuids()), PARQUET, 422, "'a' is of the extension"),
    "extension in arrow": (lambda: arrow_stream(uuids()), ARROW, 422, "'a' is of the extension"),
    "lists": (lambda: parquet([[1], [2]]), PARQUET, 422, "'a' is of the type list"),
    "infinity": (lambda: b'{"a":Infinity}\n', NDJSON, 400, "line 1"),
    "cut parquet": (lambda: parquet([*range(1000)])[:-20], PARQUET, 422, "cut off"),
    "cut arrow": (lambda: arrow_stream([*range(1000)])[:-3000], ARROW, 422, "cut off"),
    "cut gzip": (lambda: gzip.compress(b"a\n1\n" * 9999)[:-20], CSV, 422, "cut off"),
    "nul": (lambda: b"a,b\n1,2\n3,\0\n", CSV, 422, "line 3"),
    "unclosed quote": (lambda: b'a,b\n1,2\n3,"4\n5,6\n', CSV, 422, "line 3"),
    "ragged": (lambda: b"a,b\n1,2\n3,4,5\n", CSV, 422, "line 3 has 3 fields, expected 2"),
    "wide": (lambda: b",".join(b"c%d" % i for i in range(100_000)), CSV, 422, "100000 columns"),
    "wide rows": (
        lambda: b"{" + b",".join(b'"c%d":1' % i for i in range(100_000)) + b"}",
        NDJSON,
        422,
        "columns",
    ),
    "large cell": (lambda: b"a,b\n1,2\n3," + b"x" * 50 * MIB + b"\n", CSV, 422, "line 3"),
    "large line": (lambda: b'{"a":1}\n{"a":"' + b"x" * 50 * MIB + b'"}', NDJSON, 422, "line 2"),
    "sparse": (
        lambda: b"\n".join(b'{"k%d":1}' % i for i in range(9_999)),
        NDJSON,
        413,
        "too many cells",
    ),
    "header only": (lambda: b"a,b\n", CSV, 422, "no row"),
    "nothing": (lambda: b"", PARQUET, 422, "empty"),
    "not utf-8": (lambda: b"a\nok\n\xff\xfe\n", CSV, 422, "line 3"),
    "twice a key": (lambda: b'{"a":1}\n{"a":1,"a":2}\n', NDJSON, 400, "line 2"),
    "a sheet": (lambda: gzip.compress(b"PK\x03\x04" * 99), CSV, 415, "within gzip"),
    "overflow": (lambda: b'{"a":1e999}\n', NDJSON, 400, "beyond float64"),
    "64 bits": (lambda: b'{"a":9223372036854775808}\n', NDJSON, 400, "63 bits"),
    "surrogate": (lambda: b'{"a":"\\ud800"}\n', NDJSON, 400, "surrogate"),
    "no object": (lambda: b'{"a":1}\n[1]\n', NDJSON, 422, "line 2"),
    "mixture": (lambda: b'{"a":1}\n\n{"a":"x"}\n', NDJSON, 422, "line 3"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_file_is_refused_and_leaves_nothing(host: Server, case: str) -> None:
    make, media, status, said = CASES[case]
    content = make()
    process = psutil.Process(host.process.pid)
    before, known = process.memory_info().rss, _datasets(host)
    response = host.client.post("/v1/datasets", content=content, headers={"Content-Type": media})
    assert response.status_code == status, response.text
    assert said in problem(response, status, response.json()["code"])["detail"]
    assert _datasets(host) == known
    assert [*(host.data_dir / "tmp").iterdir()] == []
    assert process.memory_info().rss - before < 64 * MIB
    assert host.client.get("/livez").status_code == 200
    assert not Path("/tmp/fitserve-was-here").exists()


def test_files_are_parsed_without_torch_and_in_little_memory(host: Server) -> None:
    host.client.post("/v1/datasets", content=b"a\n1\n", headers={"Content-Type": CSV})
    (server,) = host.forkservers("parsing")
    for process in (server, *server.children()):
        mapped = " ".join(region.path for region in process.memory_maps())
        assert "libarrow" in mapped
        assert "libtorch" not in mapped


def test_a_parser_that_dies_is_an_answer_and_not_an_end(host: Server) -> None:
    headers = {"Content-Type": CSV}
    (server,) = host.forkservers("parsing")
    for victims in (server.children(), [server]):  # with the fork server every child
        assert victims
        for victim in victims:
            victim.kill()
        _until_gone(victims)
        response = host.client.post("/v1/datasets", content=b"a\n1\n", headers=headers)
        assert response.status_code == 201, response.text


@pytest.mark.parametrize(
    "request_head",
    [
        b"Content-Length: 1000000\r\n\r\na,b\n1,2\n",
        b"Transfer-Encoding: chunked\r\n\r\n8\r\na,b\n1,2\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nfffff\r\na,b\n1,2\n",
        b"Content-Length: -5\r\n\r\na,b\n1,2\n",
        b"Content-Length: 8\r\nContent-Length: 9\r\n\r\na,b\n1,2\n",
        b"Content-Length: 8\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_a_body_that_is_cut_off_leaves_nothing(host: Server, request_head: bytes) -> None:
    known = _datasets(host)
    with socket.create_connection(("127.0.0.1", host.port), timeout=10) as raw:
        head = b"POST /v1/datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/csv\r\n"
        raw.sendall(head + request_head)
        raw.shutdown(socket.SHUT_WR)
        answer = raw.recv(4096)
    assert not answer.startswith(b"HTTP/1.1 2"), answer
    _until(lambda: [*(host.data_dir / "tmp").iterdir()] == [])
    assert _datasets(host) == known


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes three million bytes, packed or not."""
    limits = {"FITSERVE_MAX_UPLOAD_BYTES": "3000000", "FITSERVE_MAX_DECODED_BYTES": "3000000"}
    with Server(tmp_path_factory.mktemp("narrow") / "data", **limits) as running:
        yield running


def test_an_endless_body_ends_at_the_limit(narrow: Server) -> None:
    def endless() -> Iterator[bytes]:
        yield b"a,b\n"
        while True:
            yield b"1,2\n" * 16384

    headers = {"Content-Type": CSV}
    response = narrow.client.post("/v1/datasets", content=endless(), headers=headers)
    problem(response, 413, "too_large")
    form = {"file": ("a.csv", b"1,2\n" * 1_000_000)}
    problem(narrow.client.post("/v1/datasets", files=form), 413, "too_large")
    assert [*(narrow.data_dir / "tmp").iterdir()] == []


def test_what_a_file_may_unpack_to_is_a_setting(narrow: Server) -> None:
    packed = gzip.compress(b"a\n" + b"1\n" * 2_000_000)
    assert "3000000 bytes" in problem(_csv(narrow, packed), 413, "too_large")["detail"]
    assert _csv(narrow, b"a\n1\n").status_code == 201


def test_memory_of_reading_is_a_setting(data_dir: Path) -> None:
    limits = {
        "FITSERVE_MAX_DECODED_BYTES": str(10_000 * MIB),
        "FITSERVE_PARSE_MEMORY_BYTES": str(1536 * MIB),
    }
    with Server(data_dir, **limits) as server:
        large = arrow_stream(np.zeros(60_000_000), "zstd", times=5)
        headers = {"Content-Type": ARROW}
        response = server.client.post("/v1/datasets", content=large, headers=headers)
        assert "FITSERVE_PARSE_MEMORY_BYTES" in problem(response, 413, "too_large")["detail"]
        assert _csv(server, b"a\n1\n").status_code == 201


def test_time_of_reading_is_a_setting(data_dir: Path) -> None:
    with Server(data_dir, FITSERVE_PARSE_SECONDS="4") as server:
        assert _csv(server, b"a\n1\n").status_code == 201
        (forkserver,) = server.forkservers("parsing")
        idle = forkserver.children()
        for child in idle:
            child.suspend()
        response = _csv(server, b"a\n1\n")
        assert "FITSERVE_PARSE_SECONDS" in problem(response, 413, "too_large")["detail"]
        for child in idle:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.resume()
        assert [*(data_dir / "tmp").iterdir()] == []
        assert _csv(server, b"a\n1\n").status_code == 201


def _csv(server: Server, content: bytes) -> httpx.Response:
    headers = {"Content-Type": CSV}
    return server.client.post("/v1/datasets", content=content, headers=headers)


def test_a_floor_of_free_disk_is_kept(data_dir: Path) -> None:
    with Server(data_dir, FITSERVE_MIN_FREE_BYTES=str(2**60)) as server:
        source = {"source": {"kind": "synthetic", "generator": "line"}}
        problem(server.client.post("/v1/datasets", json=source), 507, "storage_full")
        headers = {"Content-Type": CSV}
        response = server.client.post("/v1/datasets", content=b"a\n1\n", headers=headers)
        problem(response, 507, "storage_full")
        job = {"dataset": "line", "target": "y"}
        problem(server.client.post("/v1/jobs", json=job), 507, "storage_full")
        assert [*(data_dir / "datasets").iterdir()] == []


def _datasets(server: Server) -> tuple[int, int]:
    rows = server.ok("GET", "/v1/datasets", params={"limit": "100"})["data"]
    return len(rows), len([*(server.data_dir / "datasets").iterdir()])


def _until_gone(processes: list[psutil.Process]) -> None:
    """They are other processes' children, and may stay as zombies."""
    gone = psutil.STATUS_ZOMBIE
    _until(lambda: all(not p.is_running() or p.status() == gone for p in processes))


def _until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
