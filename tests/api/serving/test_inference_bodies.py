"""/v2, the Open Inference Protocol: what NVIDIA's client would never send, and every error."""

import gzip
import json
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.server import Json, Server
from tests.support.zoo import (
    DATATYPES,
    MIXED,
    MOST_DECODED,
    MOST_JSON,
    MOST_ROWS,
    NUMBERS,
    ROWS,
    VALUES,
    WHOLE,
    Zoo,
)


def post(
    server: Server, body: Any, model: str = "numbers", binary: bytes = b"", **headers: str
) -> httpx.Response:
    """``Some_Header`` for ``Some-Header``; the length of the JSON is told where data follows."""
    head = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    if binary:
        told.setdefault("Inference-Header-Content-Length", str(len(head)))
    path = f"/v2/models/{model}/infer"
    return server.client.post(path, content=head + binary, headers=told)


def said(response: httpx.Response, status: int) -> str:
    """The protocol's only field of an error."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    assert isinstance(body["error"], str)
    assert body["error"]
    assert "Traceback" not in response.text
    assert len(response.content) < 4096
    return str(body["error"])


def one(**changes: Any) -> Json:
    """A request for one row, of ones; ``None`` takes a field out."""
    item = {"name": "input", "shape": [1, 8], "datatype": "FP64", "data": [1.0] * 8, **changes}
    return {"inputs": [{key: value for key, value in item.items() if value is not None}]}


def packed(size: Any, **changes: Any) -> Json:
    return one(data=None, parameters={"binary_data_size": size}, **changes)


def test_what_is_told_of_the_length_of_the_json_is_checked(models: Zoo) -> None:
    body = json.dumps(one()).encode()
    right = str(len(body))
    response = post(models.server, body, Inference_Header_Content_Length=right)
    assert response.status_code == 200
    lies = ["0", "-1", "+5", "1.5", "abc", str(len(body) + 1), "9" * 30, "0" * 30 + "5"]
    for lie in [*lies, "0" * 5000, "9" * 5000, "1e2"]:
        response = post(models.server, body, Inference_Header_Content_Length=lie)
        assert "Inference-Header-Content-Length" in said(response, 422), lie
    told = [(b"Inference-Header-Content-Length", "²".encode("latin-1"))]
    raw = models.server.client.post("/v2/models/numbers/infer", content=body, headers=told)
    said(raw, 422)
    said(post(models.server, body, Inference_Header_Content_Length=str(len(body) - 1)), 400)


def test_json_is_bounded_whatever_its_header_says(models: Zoo) -> None:
    """More is allowed where binary data follows, but not of JSON."""
    body = b" " * MOST_JSON + json.dumps(one()).encode()
    assert "larger than" in said(post(models.server, body), 413)
    told = str(len(body))
    assert "larger than" in said(
        post(models.server, body, Inference_Header_Content_Length=told), 413
    )
    strings = b"".join((500).to_bytes(4, "little") + b"x" * 500 for _ in range(MOST_ROWS))
    assert MOST_JSON < len(strings) < MOST_DECODED
    rows = [dict(WHOLE[0], color="x" * 500) for _ in range(MOST_ROWS)]
    inputs = [
        {
            "name": name,
            "shape": [MOST_ROWS],
            "datatype": DATATYPES.get(name, "BYTES"),
            **(
                {"parameters": {"binary_data_size": len(strings)}}
                if name == "color"
                else {"data": [row[name] for row in rows]}
            ),
        }
        for name in MIXED
    ]
    answer = post(models.server, {"inputs": inputs}, "mixed", strings)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["outputs"][0]["data"]) == MOST_ROWS


BINARY: list[tuple[Any, bytes]] = [
    (packed(64), b"\0" * 63),
    (packed(64), b"\0" * 65),
    (packed(63), b"\0" * 63),
    (packed(0), b"\0" * 64),
    (packed(-1), b"\0" * 64),
    (packed(2**63 - 1), b"\0" * 64),
    (packed(2**70), b"\0" * 64),
    (packed(64.0), b"\0" * 64),
    (packed(True), b"\0"),
    (packed("64"), b"\0" * 64),
    (packed([[64]]), b"\0" * 64),
    (packed(None), b"\0" * 64),
    (packed(64, shape=[2**31 - 1, 2**31 - 1]), b"\0" * 64),
    (packed(64, shape=[2**31 - 1] * 8), b"\0" * 64),
    (packed(64, shape=[0, 8]), b"\0" * 64),
    (one(parameters={"binary_data_size": 64}), b"\0" * 64),
    (one(), b"left over"),
    ({"inputs": [*packed(64)["inputs"], *packed(64, name="other")["inputs"]]}, b"\0" * 64),
]


@pytest.mark.parametrize(("body", "binary"), BINARY)
def test_sizes_of_binary_data_are_not_believed(models: Zoo, body: Json, binary: bytes) -> None:
    said(post(models.server, body, binary=binary), 422)


def test_binary_data_of_the_right_size_is_read(models: Zoo) -> None:
    response = post(models.server, packed(64), binary=np.ones(8).tobytes())
    [expected] = models.predict("numbers", [dict.fromkeys(NUMBERS, 1)])
    assert response.json()["outputs"][0]["data"] == [expected]


def of_strings(data: bytes, count: int = 1) -> tuple[Json, bytes]:
    """A request to ``mixed`` whose colors are ``data``."""
    body: Json = {"inputs": []}
    for name in MIXED:
        item: Json = {"name": name, "shape": [count], "datatype": DATATYPES.get(name, "BYTES")}
        if name == "color":
            item["parameters"] = {"binary_data_size": len(data)}
        else:
            item["data"] = [WHOLE[0][name]] * count
        body["inputs"].append(item)
    return body, data


STRINGS: list[tuple[bytes, int]] = [
    (b"\xff\xff\xff\xffrot", 1),
    (b"\x04\0\0\0rot", 1),
    (b"\x03\0\0\0rot\0", 1),
    (b"\x03\0\0\0rot\x03\0\0", 2),
    (b"\x03\0\0\0rot\x03\0\0\0rot", 1),
    (b"\x03\0\0\0rot", 2),
    (b"\x03\0\0\0rot", 2**31 - 1),
    (b"\x02\0\0\0\xc3(", 1),
    (b"\x03\0\0\0\xed\xa0\x80", 1),
    (b"\x01", 1),
]


@pytest.mark.parametrize(("data", "count"), STRINGS)
def test_lengths_and_bytes_of_strings_are_not_believed(
    models: Zoo, data: bytes, count: int
) -> None:
    body, data = of_strings(data, min(count, 2))
    body["inputs"][MIXED.index("color")]["shape"] = [count]
    assert "string" in said(post(models.server, body, "mixed", data), 422)


def test_strings_may_be_empty_or_hold_anything_of_utf_8(models: Zoo) -> None:
    texts = ["", "grün", "青", "\x01", "🙂" * 100]
    data = b"".join(len(t.encode()).to_bytes(4, "little") + t.encode() for t in texts)
    body, data = of_strings(data, len(texts))
    rows = [{**WHOLE[0], "color": text} for text in texts]
    answer = post(models.server, body, "mixed", data)
    assert answer.json()["outputs"][0]["data"] == models.predict("mixed", rows)


DEEP = json.loads("[" * 900 + "]" * 900)


def each(field: str, *values: Any, **others: Any) -> list[Json]:
    """Requests whose only tensor has one of these values."""
    return [one(**{field: value}, **others) for value in values]


def eights(datatype: str, *values: Any) -> list[Json]:
    """Requests whose first value is one of these."""
    return each("data", *([value, *[1] * 7] for value in values), datatype=datatype)


WRONG: list[Any] = [
    *([], None, 1, "x", {}, {"inputs": None}, {"inputs": []}, {"inputs": {}}, {"inputs": [None]}),
    *each("name", "", 1, [], {}, DEEP),
    *each("datatype", "fp64", "BF16", "", 1, [], {}, [[1]], DEEP),
    *each("shape", [], "x", 8, [8], [8, 1], [2, 8], [1, 8, 1], [-1, 8], [1] * 9, [10**30, 8], DEEP),
    *each("shape", [2**31 - 1, 2**31 - 1], [2**31 - 1] * 8, [2**31, 8]),
    *each("shape", [True, 8], [1.0, 8], ["1", 8], [None, 8]),
    *each("data", [], [1] * 7, [1] * 9, "x" * 8, 1, {}, [[1] * 9], DEEP, [DEEP] * 8),
    *eights("FP64", True, "1", {}, [1], 1e305),
    *eights("INT8", 128, -129, 0.5, 2**70),
    *eights("UINT64", -1, 2**64),
    *eights("FP16", 1e5, 100_000, -1e300),
    *eights("FP32", 1e39),
    one(data=None),
    *each("parameters", {"shared_memory_region": "a"}, [], "x", 1, [1], data=None),
    {"inputs": one()["inputs"] * 2},
    *({**one(), "id": value} for value in [1, None, [], DEEP]),
    *({**one(), "parameters": value} for value in [[1], "x", 1]),
    *({**one(), "outputs": value} for value in ["x", 1, [1], [{}], [{"name": []}], DEEP]),
    {**one(), "outputs": [{"name": "predictions", "parameters": [1]}]},
]


@pytest.mark.parametrize("body", WRONG)
def test_nonsense_is_refused(models: Zoo, body: Any) -> None:
    said(post(models.server, body), 422)


def test_broken_json_is_refused(models: Zoo) -> None:
    broken = (
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 5000,
        b"{" * 5000,
        b'{"inputs": [NaN]}',
        b"\0",
        b'"\xff"',
    )
    for body in broken:
        said(post(models.server, body), 400)


def test_nested_and_flat_data_are_the_same(models: Zoo) -> None:
    values = VALUES[:2].tolist()
    flat = [value for row in values for value in row]
    answers = [
        post(models.server, one(shape=[2, 8], data=data)).json()["outputs"]
        for data in (values, flat, [[value] for value in flat], [[values]])
    ]
    assert answers == [answers[0]] * 4
    assert answers[0][0]["data"] == models.predict("numbers", ROWS[:2])


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT16"])
def test_null_is_a_missing_value(models: Zoo, datatype: str) -> None:
    """And changes no other."""
    sent = 123456.7 if "FP" in datatype else 3
    meant = float(np.float32(sent)) if datatype == "FP32" else sent
    values = [sent, None, *[sent] * 6]
    row = dict(zip(NUMBERS, [meant, None, *[meant] * 6], strict=True))
    expected = models.predict("numbers", [row])
    together = one(datatype=datatype, data=values)
    apart = {
        "inputs": [
            {"name": name, "datatype": datatype, "shape": [1], "data": [value]}
            for name, value in zip(NUMBERS, values, strict=True)
        ]
    }
    for body in (together, apart):
        assert post(models.server, body).json()["outputs"][0]["data"] == expected


def test_null_in_features_of_every_type(models: Zoo) -> None:
    row = dict.fromkeys(MIXED)
    inputs = [
        {"name": name, "shape": [1], "datatype": DATATYPES.get(name, "BYTES"), "data": [None]}
        for name in MIXED
    ]
    answer = post(models.server, {"inputs": inputs}, "mixed")
    assert answer.json()["outputs"][0]["data"] == models.predict("mixed", [row])


def test_compressed_bodies_are_checked(models: Zoo) -> None:
    body = json.dumps(one()).encode()
    raw = zlib.compress(body)[2:-4]
    good = [("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("deflate", raw)]
    for encoding, content in [*good, ("identity", body), ("X-GZip", gzip.compress(body))]:
        assert post(models.server, content, Content_Encoding=encoding).status_code == 200
    for encoding, content in good:
        for cut in (0, 1, len(content) // 2, len(content) - 1):
            said(post(models.server, content[:cut], Content_Encoding=encoding), 422)
        said(post(models.server, content + b"more", Content_Encoding=encoding), 422)
        said(post(models.server, b"\0" * 99, Content_Encoding=encoding), 422)
    for encoding in ("br", "gzip, gzip", "zstd", "x"):
        said(post(models.server, gzip.compress(body), Content_Encoding=encoding), 415)


def test_bombs_are_refused(models: Zoo) -> None:
    """Both where only JSON may come, and where binary data may."""
    for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        bomb = pack(b" " * 32 * MOST_DECODED)
        assert len(bomb) < MOST_JSON
        response = post(models.server, bomb, Content_Encoding=encoding)
        assert "larger than" in said(response, 413)
        told = {"Content_Encoding": encoding, "Inference_Header_Content_Length": "9"}
        assert "larger than" in said(post(models.server, bomb, "numbers", b"", **told), 413)
    said(post(models.server, b" " * (MOST_DECODED + 1), Inference_Header_Content_Length="9"), 413)


# ---------------------------------------------------------------- every error of every path

PATHS = [
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/numbers",
    "/v2/models/numbers/ready",
    "/v2/models/numbers/versions/1",
    "/v2/models/numbers/versions/1/ready",
    "/v2/models/numbers/infer",
    "/v2/models/numbers/versions/1/infer",
]
NOWHERE = [
    *("/v2/x", "/v2/models", "/v2/models/", "/v2/models//infer", "/v2/models//ready", "/v2/health"),
    *("/v2/models/nobody", "/v2/models/nobody/ready", "/v2/models/infer", "/v2/models/ready"),
    *("/v2/models/numbers/versions/9", "/v2/models/numbers/versions/9/ready"),
    *("/v2/models/numbers/versions/-1", "/v2/models/numbers/versions/" + "9" * 30),
    *("/v2/models/a%2Fb", "/v2/models/a%2Fb/ready", "/v2/models/%00", "/v2/models/%FF"),
    *("/v2/models/numbers@9", "/v2/models/numbers@", "/v2/models/@1", "/v2/models/" + "x" * 3000),
    *("/v2/models/numbers/config", "/v2/models/numbers/stats", "/v2/repository/index"),
]
NOBODY = [
    *(
        "/v2/models/nobody/infer",
        "/v2/models/a%2Fb/infer",
        "/v2/models//infer",
        "/v2/models/infer/x",
    ),
    *("/v2/models/numbers/versions/9/infer", "/v2/models/numbers/versions/x/infer"),
    *("/v2/models/numbers/versions/%C2%B2/infer", "/v2/models/numbers/versions//infer"),
    *("/v2/models/numbers@1/versions/1/infer", "/v2/models/numbers/infer/", "/v2/models/%00/infer"),
    *("/v2/models/numbers/versions/" + "9" * 5000 + "/infer", "/v2/models/%FF/infer"),
]


def test_every_error_is_one_string(models: Zoo) -> None:
    client = models.server.client
    found: dict[int, int] = {}
    for path in NOWHERE:
        found[404] = found.get(404, 0) + bool(said(client.get(path), 404))
    for path in NOBODY:
        found[404] += bool(said(client.post(path, json=one()), 404))
    for path in PATHS:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
            if (method == "POST") == path.endswith("infer") and method in ("GET", "POST"):
                continue
            response = client.request(method, path)
            said(response, 405)
            allowed = "OPTIONS, POST" if path.endswith("infer") else "GET, HEAD, OPTIONS"
            assert response.headers["allow"] == allowed
            found[405] = found.get(405, 0) + 1
        head = client.head(path)
        assert head.content == b""
        assert (head.status_code == 405) == path.endswith("infer")
        for headers, status in (
            ({"Host": "example.com"}, 421),
            ({"Origin": "http://example.com"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
        ):
            method = "POST" if path.endswith("infer") else "GET"
            said(client.request(method, path, headers=headers), status)
            found[status] = found.get(status, 0) + 1
        response = client.request(method, path, params={"force": "true"}, json=one())
        assert "unknown query parameter 'force'" in said(response, 422)
    print(found)
    assert min(found.values()) == len(PATHS)
