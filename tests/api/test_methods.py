"""HEAD and OPTIONS of every path, ``?format=``, conditions, and the wait that was applied."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.openapi import document
from tests.support.server import LINE_JOB, Server, problem


@pytest.fixture(scope="module")
def job(server: Server) -> str:
    return str(server.train(**{**LINE_JOB, "register_as": "methods"})["id"])


_PLOTTED = {"datasets": {"ref": "line", "plot": "histogram"}, "models": {"plot": "effects"}}
"""What is drawn of which kind of resource."""


def gets(job: str, upload: str) -> dict[str, str]:
    """A path that answers for every GET of the document."""
    names = {"job_id": job, "ref": "methods", "name": "methods", "version": "1", "alias": "best"}
    names |= {"plot": "loss", "image": "png", "part": "train", "upload_id": upload}
    names |= {"kind": "residuals"}
    found = {}
    for path, item in document()["paths"].items():
        here = names | next((v for k, v in _PLOTTED.items() if f"/{k}/" in path), {})
        if "get" in item and "{checkpoint_id}" not in path:
            filled = path.format(**here)
            query = {"histogram": "?x=x", "/effects": "?feature=x"}
            found[path] = filled + next((v for k, v in query.items() if k in filled), "")
    return found


def test_every_get_answers_head(server: Server, job: str) -> None:
    server.ok("PUT", "/v1/models/methods/aliases/best", json={"version": 1})
    upload = server.ok("POST", "/v1/uploads", json=[{"a": 1}])["id"]
    (checkpoint, *_) = server.ok("GET", f"/v1/jobs/{job}/checkpoints")["data"]
    paths = gets(job, upload) | {
        "download": f"/v1/jobs/{job}/checkpoints/{checkpoint['id']}/download",
        "docs": "/docs",
        "document": "/openapi.json",
    }
    assert len(paths) >= 39
    for path in paths.values():
        got = server.client.get(path)
        head = server.client.head(path)
        assert head.status_code == got.status_code, path
        assert head.content == b""
        for name in ("content-type", "etag", "content-length", "content-disposition"):
            varies = path in ("/metrics", "/readyz") or path.endswith("/content")  # streamed
            varies = varies and name == "content-length"
            assert varies or head.headers.get(name) == got.headers.get(name), (path, name)
    assert server.client.head("/v1/models/nobody").status_code == 404


def test_head_neither_waits_nor_follows(server: Server) -> None:
    job_id = server.start_long_job()
    for path in (f"/v1/jobs/{job_id}?wait=60", f"/v1/jobs/{job_id}/stream"):
        head = server.client.head(path, timeout=20)
        assert head.status_code == 200
    assert head.headers["content-type"].startswith("text/event-stream")
    server.ok("POST", f"/v1/jobs/{job_id}/cancel")
    server.ended(job_id)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/datasets", "GET, HEAD, OPTIONS, POST"),
        ("/v1/datasets/line", "DELETE, GET, HEAD, OPTIONS"),
        ("/v1/jobs/any/cancel", "OPTIONS, POST"),
        ("/v1/models/line/predict", "OPTIONS, POST"),
        ("/v1/models/line/aliases/best", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/v2/models/line/infer", "OPTIONS, POST"),
        ("/invocations", "OPTIONS, POST"),
        ("/docs", "GET, HEAD, OPTIONS"),
        ("/livez", "GET, HEAD, OPTIONS"),
    ],
)
def test_allow_names_every_method(server: Server, path: str, methods: str) -> None:
    options = server.client.options(path)
    assert (options.status_code, options.content) == (204, b"")
    assert options.headers["allow"] == methods
    refused = server.client.patch(path)
    if path.startswith("/v2"):
        assert (refused.status_code, refused.headers["allow"]) == (405, methods)
    else:
        problem(refused, 405, "method_not_allowed")
        assert refused.headers["allow"] == methods


@pytest.mark.parametrize("path", ["/nothing", "/v1/models/line:predict", "/v1/jobs/a b/cancel/x"])
def test_what_is_nowhere_takes_no_method(server: Server, path: str) -> None:
    for method in ("OPTIONS", "POST", "PUT", "GET"):
        problem(server.client.request(method, path), 404, "not_found")


# ---------------------------------------------------------------- formats


def test_a_bare_url_is_enough_for_pandas(server: Server, job: str) -> None:
    content = f"{server.url}/v1/datasets/line/content"
    told = pd.read_csv(f"{content}?format=csv")
    assert list(told.columns) == ["x", "y"]
    assert len(told) == 50
    assert pd.read_parquet(f"{content}?format=parquet").equals(told)
    history = pd.read_csv(f"{server.url}/v1/jobs/{job}/metrics?format=csv")
    assert history["epoch"].tolist() == list(range(100))
    arrow = server.client.get("/v1/datasets/line/content?format=arrow").content
    assert pa.ipc.open_stream(arrow).read_all().num_rows == 50
    wins = server.client.get(
        "/v1/datasets/line/content?format=parquet", headers={"Accept": "text/csv"}
    )
    assert pq.read_table(io.BytesIO(wins.content)).num_rows == 50


@pytest.mark.parametrize("form", ["csv", "arrow"])
def test_a_table_that_is_written_for_the_asker_has_a_length_for_who_wants_it(
    server: Server, form: str
) -> None:
    """polars and download managers ask for it before they begin."""
    source = {"kind": "inline", "columns": {"a": list(range(5_000)), form: ["ü"] * 5_000}}
    made = server.ok("POST", "/v1/datasets", json={"name": f"long-{form}", "source": source})
    path = f"/v1/datasets/{made['id']}/content?format={form}"
    streamed = server.client.get(path)
    assert "content-length" not in streamed.headers
    with ThreadPoolExecutor(8) as pool:
        heads = list(pool.map(lambda _: server.client.head(path), range(8)))
    for head in heads:
        assert head.status_code == 200
        assert head.headers["content-length"] == str(len(streamed.content))
        assert head.headers["etag"] == streamed.headers["etag"]
    tail = server.client.get(path, headers={"Range": "bytes=-7"})
    assert (tail.status_code, tail.content) == (206, streamed.content[-7:])
    kept = server.client.get(path)
    assert kept.headers["content-length"] == str(len(kept.content))
    assert kept.content == streamed.content


def test_few_tables_that_were_written_are_kept(server: Server) -> None:
    for number in range(12):
        source = {"kind": "inline", "columns": {"a": [number, 1, 2]}}
        made = server.ok("POST", "/v1/datasets", json={"source": source})
        assert server.client.head(f"/v1/datasets/{made['id']}/content").status_code == 200
    assert list((server.data_dir / "tmp").iterdir()) == []
    links = Path(f"/proc/{server.process.pid}/fd").iterdir()
    opened = [str(link.readlink()) for link in links if link.is_symlink()]
    assert sum(name.startswith(str(server.data_dir / "tmp")) for name in opened) == 8
    assert server.client.head(f"/v1/datasets/{made['id']}/content").status_code == 200


def test_predictions_in_a_format(server: Server, job: str) -> None:
    rows = {"rows": [{"x": 0.5}, {"x": 0.9}]}
    path = "/v1/models/methods/predict"
    told = server.ok("POST", path, json=rows)["predictions"]
    text = server.client.post(f"{path}?format=csv", json=rows, headers={"Accept": "*/*"}).text
    assert np.allclose(pd.read_csv(io.StringIO(text))["prediction"], told)
    assert server.ok("POST", f"{path}?format=json", json=rows)["predictions"] == told
    assert (
        server.client.post(f"{path}?format=arrow", json=rows).headers["content-type"]
        == "application/vnd.apache.arrow.stream"
    )


def test_a_format_that_is_not_there(server: Server, job: str) -> None:
    row: Any = {"json": {"rows": [{"x": 0.5}]}}
    for method, path, named, options in (
        ("GET", "/v1/datasets/line/content?format=json", "parquet", {}),
        ("GET", f"/v1/jobs/{job}/metrics?format=arrow", "csv", {}),
        ("POST", "/v1/models/methods/predict?format=parquet", "arrow", row),
        ("GET", "/v1/models/methods/download?format=pickle", "safetensors", {}),
    ):
        body = problem(server.client.request(method, path, **options), 422, "invalid_request")
        assert body["errors"][0]["pointer"] == "/format"
        assert named in body["detail"]


# ---------------------------------------------------------------- conditions


def downloads(server: Server, job: str) -> list[str]:
    (checkpoint, *_) = server.ok("GET", f"/v1/jobs/{job}/checkpoints")["data"]
    return [
        *(f"/v1/datasets/line/content?format={name}" for name in ("parquet", "csv", "arrow")),
        "/v1/models/methods/download",
        f"/v1/jobs/{job}/checkpoints/{checkpoint['id']}/download",
        f"/v1/jobs/{job}/metrics?format=csv",
        f"/v1/jobs/{job}/plots/loss.png",
        "/v1/datasets/line/plots/scatter.svg?x=x&y=y",
    ]


def test_downloads_have_ranges_and_strong_etags(server: Server, job: str) -> None:
    for path in downloads(server, job):
        whole = server.client.get(path)
        etag = whole.headers["etag"]
        assert etag.startswith('"')
        assert whole.headers["accept-ranges"] == "bytes"
        part = server.client.get(path, headers={"Range": "bytes=4-9"})
        assert (part.status_code, part.content) == (206, whole.content[4:10])
        fresh = server.client.get(path, headers={"Range": "bytes=4-9", "If-Range": '"other"'})
        assert (fresh.status_code, fresh.content) == (200, whole.content)
        for tags in (etag, f'"a", {etag}', f"W/{etag}", "*"):
            known = server.client.get(path, headers={"If-None-Match": tags})
            assert (known.status_code, known.content) == (304, b""), tags
            assert known.headers["etag"] == etag
        other = server.client.get(path, headers={"If-None-Match": f'"x{etag[1:]}'})
        assert other.status_code == 200
        size = len(whole.content)
        beyond = server.client.get(path, headers={"Range": f"bytes={size}-"})
        assert f"the {size} bytes" in problem(beyond, 416, "range_not_satisfiable")["detail"]
        assert beyond.headers["content-range"] == f"bytes */{size}"
        for passed_over in (
            "bytes=a-b",
            "items=0-1",
            "bytes=5-2",
            "bytes",
            "bytes=",
            "bytes=0-1,x",
        ):
            no_range = server.client.get(path, headers={"Range": passed_over})
            assert (no_range.status_code, no_range.content) == (200, whole.content), passed_over
        times = [parsedate_to_datetime(part.headers[name]) for name in ("last-modified", "date")]
        assert times[0] <= times[1]
        for broken in ('"', '"a" "b"', 'a"b', "garbage", "'a'", "W/abc", etag.strip('"')):
            refused = server.client.get(path, headers={"If-None-Match": broken})
            body = problem(refused, 422, "invalid_request")
            assert body["errors"][0]["pointer"] == "/If-None-Match"


def test_a_download_is_whole_or_not_there_while_it_is_deleted(server: Server) -> None:
    """The file is opened before the answer begins: its name may be gone before the first byte."""
    for i in range(8):
        made = server.line(f"going-{i}")
        path = f"/v1/datasets/{made['id']}/content?format=parquet"
        whole = server.client.get(path).content
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(_until_gone, server, path) for _ in range(2)]
            pool.submit(server.client.delete, f"/v1/datasets/{made['id']}").result()
            assert all(answer == whole for answers in asked for answer in answers.result())


def _until_gone(server: Server, path: str) -> list[bytes]:
    """What a download gives, again and again, until there is nothing."""
    found = []
    with httpx.Client(base_url=server.client.base_url) as client:
        while (answer := client.get(path)).status_code == 200:
            found.append(answer.content)
    assert answer.status_code == 404
    return found


def test_an_alias_has_an_etag_that_is_looked_at(server: Server, job: str) -> None:
    path = "/v1/models/methods/aliases/seen"
    server.client.put(path, json={"version": 1})
    etag = server.client.get(path).headers["etag"]
    for tags, status in ((etag, 304), ("*", 304), ('"x"', 200), ("1", 422)):
        assert server.client.get(path, headers={"If-None-Match": tags}).status_code == status
    assert server.client.get(path, headers={"If-Match": '"x"'}).status_code == 412


# ---------------------------------------------------------------- waiting


def test_the_wait_that_was_applied_is_said(server: Server) -> None:
    def applied(response: httpx.Response) -> tuple[int, str | None]:
        return response.status_code, response.headers.get("preference-applied")

    quick = {**LINE_JOB, "register_as": "waited"}
    done = server.client.post("/v1/jobs", json=quick, headers={"Prefer": "wait=600"})
    assert applied(done) == (201, "wait=60")
    path = f"/v1/jobs/{done.json()['id']}"
    assert applied(server.client.get(f"{path}?wait=600")) == (200, "wait=60")
    for prefer in ('wait="75"', "respond-async, wait=75; strict", "wait = 75"):
        assert applied(server.client.get(path, headers={"Prefer": prefer})) == (200, "wait=60")
    for wait in ("1_0", "soon", "-1", "nan", "inf", "\u0661", "."):
        problem(server.client.get(path, params={"wait": wait}), 422, "invalid_request")
    assert applied(server.client.get(path)) == (200, None)
    assert applied(server.client.get(path, headers={"Prefer": "wait=600"})) == (200, "wait=60")
    long = {**LINE_JOB, "epochs": 1_000_000, "register_as": "waited"}
    begun = server.client.post("/v1/jobs", json=long, headers={"Prefer": "wait=0.2"})
    assert applied(begun) == (202, "wait=0.2")
    path = f"/v1/jobs/{begun.json()['id']}"
    started = time.monotonic()
    assert applied(server.client.get(path, headers={"Prefer": "wait=0.3"})) == (200, "wait=0.3")
    assert time.monotonic() - started > 0.3
    server.ok("POST", f"{path}/cancel")
    server.ended(begun.json()["id"])
