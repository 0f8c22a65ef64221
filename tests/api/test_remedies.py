"""What is refused names its field and a remedy that works, whatever parameter or field it is."""

import socket
from typing import Any

import pytest

from tests.support.openapi import document
from tests.support.server import Json, Server, problem

CSV = {"Content-Type": "text/csv"}
NDJSON = {"Content-Type": "application/x-ndjson"}
LEAKS = ("literal[", "Input should", "Value error", "String should", "valid boolean", "union")
"""Words of the library that checks; people are told in ours."""


@pytest.fixture(scope="module")
def job(server: Server) -> str:
    return str(server.train(dataset="line", target="y", epochs=1, register_as="remedies")["id"])


def with_parameters(job: str) -> list[tuple[str, str, Json]]:
    """Method, path and a query parameter that does not take any string, of all there are."""
    names = {"job_id": job, "ref": "remedies", "name": "remedies", "version": "1", "alias": "best"}
    names |= {"plot": "loss", "image": "png", "part": "train", "checkpoint_id": "none"}
    names |= {"upload_id": "none"}
    found = []
    for path, item in document()["paths"].items():
        here = names | ({"ref": "line", "plot": "histogram"} if "datasets" in path else {})
        for method, operation in item.items():
            found += [
                (method, path.format(**here), parameter)
                for parameter in operation.get("parameters", [])
                if parameter["in"] == "query"
            ]
    return found


def plain(schema: Json) -> bool:
    """Whether any string will do."""
    kinds = schema.get("anyOf", [schema])
    return any(
        kind.get("type") == "string" and not {"enum", "const", "pattern"} & kind.keys()
        for kind in kinds
    )


def test_every_parameter_says_what_it_takes_and_is_sent_once(server: Server, job: str) -> None:
    checked = 0
    for method, path, parameter in with_parameters(job):
        name = parameter["name"]
        if path.startswith(("/v2", "/invocations", "/ping")):
            continue
        body: Json = {"json": {}} if method != "get" else {}
        if path == "/v1/datasets" and body:
            body = {"content": b"x,y\n1,2\n", "headers": CSV}
        twice = server.client.request(method, f"{path}?{name}=1&{name}=2", **body)
        assert f"'{name}' stands 2 times" in problem(twice, 422, "invalid_request")["detail"]
        if plain(parameter["schema"]):
            continue
        checked += 1
        sent = server.client.request(method, f"{path}?{name}=~", **body)
        refused = problem(sent, 422, "invalid_request")
        assert refused["errors"][0]["pointer"] == f"/{name}", refused
        assert not any(leak in refused["detail"] for leak in LEAKS), refused
        assert name in refused["detail"]
    assert checked > 40


def test_what_is_quoted_is_whole(server: Server) -> None:
    body = server.client.post("/v1/datasets?thousands=q", content=b"x\n1\n", headers=CSV)
    said = problem(body, 422, "invalid_request")["detail"]
    assert said.endswith("there are ',', '.', ''', ' ', '_', 'none'")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"date_format": "%Q"}, "date_format"),
        ({"date_format": "nothing"}, "date_format"),
        ({"decimal": ",", "thousands": ","}, "thousands"),
    ],
)
def test_options_that_no_cell_could_follow(server: Server, query: Json, field: str) -> None:
    sent = server.client.post("/v1/datasets", params=query, content=b"x\n1\n2\n", headers=CSV)
    assert problem(sent, 422, "invalid_request")["errors"][0]["pointer"] == f"/{field}"
    source = {"kind": "inline", "columns": {"x": ["1", "2"]}}
    sent = server.client.post("/v1/datasets", json={"source": source, "reading": query})
    error = problem(sent, 422, "invalid_request")["errors"][0]
    assert error["pointer"] == f"/reading/{field}"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (["y", "y"], "the same column is named twice"),
        ([], "'target' needs at least 1"),
        (3, "'target' should be a string or a list of them"),
        (["y", 3], "'target[1]' should be a string"),
    ],
)
def test_a_string_or_a_list(server: Server, target: Any, said: str) -> None:
    sent = server.client.post("/v1/jobs", json={"dataset": "line", "target": target})
    assert problem(sent, 422, "invalid_request")["detail"] == said


def test_the_split_that_is_named_for_few_rows_is_taken(server: Server) -> None:
    rows = "x,y\n" + "\n".join(f"{i},{2 * i}" for i in range(5))
    server.ok("POST", "/v1/datasets?name=five", content=rows, headers=CSV)
    job = {"dataset": "five", "target": "y", "epochs": 1}
    usual = {"train": 0.8, "validation": 0.1, "test": 0.1}
    refused = server.client.post("/v1/jobs", json={**job, "split": usual})
    said = problem(refused, 422, "invalid_request")["detail"]
    assert '{"split": {"train": 0.6, "validation": 0.2, "test": 0.2}}' in said
    split = {"train": 0.6, "validation": 0.2, "test": 0.2}
    assert server.train(**job, split=split)["status"] == "succeeded"
    unsaid = server.train(**job)
    assert {part: unsaid["spec"]["split"][part] for part in split} == split
    assert any("of 5 rows the usual split" in warning for warning in unsaid["warnings"])


def test_the_same_rows_lack_a_feature_in_every_form(server: Server, job: str) -> None:
    path = "/v1/models/remedies/predict"
    rows = problem(server.client.post(path, json={"rows": [{"x": 1}, {}]}), 422, "invalid_request")[
        "errors"
    ][0]
    lines = problem(
        server.client.post(path, content='{"x":1}\n\n{}\n', headers=NDJSON), 422, "invalid_request"
    )["errors"][0]
    assert (rows["pointer"], lines["pointer"]) == ("/rows/1/x", "/line/3/x")
    assert rows["code"] == lines["code"] == "missing"
    gap = server.client.post(path, content='{"x":1}\n{"x":null}\n', headers=NDJSON)
    assert gap.status_code == 200


def test_cells_to_predict_that_do_not_fit_may_be_missing(server: Server, job: str) -> None:
    path = "/v1/models/remedies/predict"
    sent = server.client.post(path, content="x\n1\nlots\n", headers=CSV)
    assert "on_error=missing" in problem(sent, 422, "invalid_data")["detail"]
    taken = server.client.post(f"{path}?on_error=missing", content="x\n1\nlots\n", headers=CSV)
    gap = server.ok("POST", path, json={"rows": [{"x": 1}, {"x": None}]})
    assert taken.json() == gap
    sent = server.client.post(f"{path}?on_error=ignore", content="x\n1\n", headers=CSV)
    assert "there are 'refuse', 'missing'" in problem(sent, 422, "invalid_request")["detail"]


def test_forms_say_each_thing_once(server: Server) -> None:
    file = {"file": ("t.csv", b"x\n1\n2\n", "text/csv")}
    sent = server.client.post("/v1/datasets?name=a", files=file, data={"name": "b"})
    assert "in form and query" in problem(sent, 422, "invalid_request")["detail"]
    sent = server.client.post("/v1/datasets", files=file, data={"name": ["a", "b"]})
    assert "stands twice, in the form" in problem(sent, 422, "invalid_request")["detail"]
    sent = server.client.post("/v1/datasets", files=[*file.items(), *file.items()])
    assert "send one file" in problem(sent, 400, "invalid_request")["detail"]
    sent = server.client.post("/v1/datasets", files=file, data={"types": '{"x":"zahl"}'})
    assert problem(sent, 422, "invalid_request")["errors"][0]["pointer"] == "/types/x"
    damaged = {"Content-Type": "multipart/form-data; boundary=x"}
    sent = server.client.post("/v1/datasets", content=b"no form", headers=damaged)
    assert "the form cannot be read" in problem(sent, 400, "invalid_request")["detail"]


def test_an_alias_of_digits_is_a_version(server: Server, job: str) -> None:
    said = problem(server.client.get(f"/v1/models/remedies@{10**20}"), 404, "not_found")["detail"]
    assert said.endswith("its newest is 1")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk size"),
        (b"Transfer-Encoding: gzip\r\n\r\nabc", "Transfer-Encoding"),
        (b"Content-Length: many\r\n\r\n", "Content-Length"),
        (b"X: a\0b\r\n\r\n", "header value"),
    ],
)
def test_what_is_no_http_is_said_to_be_none(server: Server, request_: bytes, said: str) -> None:
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as peer:
        peer.settimeout(60)
        peer.sendall(head + request_)
        answer = b""
        while part := peer.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert said in answer.decode()
