"""/v2, the Open Inference Protocol: NVIDIA's client as it comes, and what it would never send."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from app import __version__
from tests.api.zoo import (
    KINDS,
    MIXED,
    MOST_DECODED,
    MOST_JSON,
    MOST_ROWS,
    NUMBERS,
    Zoo,
    mixed_row,
    number_row,
)
from tests.server import Json, Server

ROWS = [number_row(i) for i in range(7)]
VALUES = np.array([list(row.values()) for row in ROWS])
WHOLE = [row for row in map(mixed_row, range(200)) if None not in row.values()][:5]
"""Rows of ``mixed`` without gaps, which tensors of the client cannot say."""
DATATYPES = {"size": "FP64", "new": "BOOL"}


@pytest.fixture(scope="module")
def client(models: Zoo) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{models.server.port}") as client:
        yield client


def tensor(name: str, values: Any, datatype: str = "FP64", *, binary: bool = True) -> Any:
    kinds = {"FP64": "f8", "FP32": "f4", "FP16": "f2", "BOOL": "?", "BYTES": object}
    kind: Any = kinds.get(datatype) or datatype.lower()
    array = np.array(values, kind)
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def mixed_tensors(rows: list[Json], *, binary: bool = True, wide: bool = False) -> list[Any]:
    """One a feature, ``[N]`` or ``[N, 1]``."""
    made = []
    for name in MIXED:
        column = [[row[name]] if wide else row[name] for row in rows]
        made.append(tensor(name, column, DATATYPES.get(name, "BYTES"), binary=binary))
    return made


def wanted(*names: str, binary: bool) -> list[Any]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


# ---------------------------------------------------------------- who is there


def test_the_client_finds_out_who_is_there(client: Any) -> None:
    assert client.is_server_live() is True
    assert client.is_server_ready() is True
    about = client.get_server_metadata()
    assert about["name"] == "fitserve"
    assert about["version"] == __version__
    assert "binary_tensor_data" in about["extensions"]
    for name, version in (("numbers", ""), ("numbers", "1"), ("numbers@2", ""), ("mixed", "1")):
        assert client.is_model_ready(name, version) is True, (name, version)
    for name, version in (("nobody", ""), ("numbers", "3"), ("numbers@9", ""), ("a/b", "")):
        assert client.is_model_ready(name, version) is False, (name, version)


def test_the_client_finds_out_what_models_are(client: Any) -> None:
    numbers = client.get_model_metadata("numbers")
    assert numbers["name"] == "numbers"
    assert numbers["versions"] == ["1", "2"]
    assert numbers["inputs"] == [{"name": "input", "datatype": "FP64", "shape": [-1, 8]}]
    assert numbers["outputs"] == [{"name": "predictions", "datatype": "FP64", "shape": [-1]}]
    assert client.get_model_metadata("numbers", "1") == numbers
    mixed = client.get_model_metadata("mixed")
    assert mixed["inputs"] == [
        {"name": name, "datatype": DATATYPES.get(name, "BYTES"), "shape": [-1]} for name in MIXED
    ]
    assert mixed["outputs"] == [
        {"name": "predictions", "datatype": "BYTES", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP64", "shape": [-1, 3]},
    ]
    assert [out["shape"] for out in client.get_model_metadata("pair")["outputs"]] == [[-1, 2]]
    assert [out["datatype"] for out in client.get_model_metadata("flags")["outputs"]] == [
        "BOOL",
        "FP64",
    ]


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("rows", [1, 7])
def test_one_tensor_of_numbers(
    models: Zoo, client: Any, rows: int, binary_in: bool, binary_out: bool
) -> None:
    expected = models.predict("numbers", ROWS[:rows])
    inputs = [tensor("input", VALUES[:rows], binary=binary_in)]
    answer = client.infer("numbers", inputs, outputs=wanted("predictions", binary=binary_out))
    assert answer.as_numpy("predictions").tolist() == expected
    assert answer.get_output("predictions")["shape"] == [rows]
    assert ("data" in answer.get_output("predictions")) is not binary_out
    assert answer.get_response()["model_name"] == "numbers"
    assert answer.get_response()["model_version"] == "2"
    assert "id" not in answer.get_response()
    default = client.infer("numbers", inputs)
    assert default.as_numpy("predictions").tolist() == expected
    assert "data" not in default.get_output("predictions")


@pytest.mark.parametrize(
    "name", ["input", "input-0", "INPUT__0", "inputs", "x", "data", "features"]
)
def test_other_names_of_the_only_tensor(models: Zoo, client: Any, name: str) -> None:
    answer = client.infer("numbers", [tensor(name, VALUES)])
    assert answer.as_numpy("predictions").tolist() == models.predict("numbers", ROWS)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    "datatype",
    [
        "FP64",
        "FP32",
        "FP16",
        *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    ],
)
def test_every_datatype_of_numbers(models: Zoo, client: Any, datatype: str, binary: bool) -> None:
    kind = {"FP64": "f8", "FP32": "f4", "FP16": "f2"}.get(datatype) or datatype.lower()
    values = (np.arange(24).reshape(3, 8) / (3 if "FP" in datatype else 1)).astype(kind)
    rows = [dict(zip(NUMBERS, map(float, row), strict=True)) for row in values]
    expected = models.predict("numbers", rows)
    together = client.infer("numbers", [tensor("input", values, datatype, binary=binary)])
    assert together.as_numpy("predictions").tolist() == expected
    for wide in (False, True):
        columns = [
            tensor(name, values[:, i : i + 1] if wide else values[:, i], datatype, binary=binary)
            for i, name in enumerate(NUMBERS)
        ]
        apart = client.infer("numbers", columns[::-1])
        assert apart.as_numpy("predictions").tolist() == expected


def test_tensors_may_be_binary_or_not_in_one_request(models: Zoo, client: Any) -> None:
    inputs = [tensor(name, VALUES[:, i], binary=i % 3 > 0) for i, name in enumerate(NUMBERS)]
    answer = client.infer("numbers", inputs)
    assert answer.as_numpy("predictions").tolist() == models.predict("numbers", ROWS)


def test_several_targets(models: Zoo, client: Any) -> None:
    rows = [{"u": 0.5, "v": -2.0}, {"u": 3.25, "v": 7.0}, {"u": 1.0, "v": 0.0}]
    inputs = [tensor("input", [[row["u"], row["v"]] for row in rows])]
    for binary in (True, False):
        outputs = wanted("predictions", binary=binary)
        pair = client.infer("pair", inputs, outputs=outputs).as_numpy("predictions")
        assert pair.tolist() == [[row["a"], row["b"]] for row in models.predict("pair", rows)]
        flags = client.infer("flags", inputs, outputs=outputs).as_numpy("predictions")
        assert flags.dtype == np.bool_
        assert flags.tolist() == [[row["p"], row["q"]] for row in models.predict("flags", rows)]
    shares = client.infer("flags", inputs).as_numpy("probabilities")
    path = "/v1/models/flags/predict?probabilities=true"
    told = models.server.ok("POST", path, json={"rows": rows})["probabilities"]
    assert shares.tolist() == [[row["p"], row["q"]] for row in told]


# ---------------------------------------------------------------- features of every type


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("wide", [True, False])
def test_features_of_every_type(models: Zoo, client: Any, wide: bool, binary: bool) -> None:
    path = "/v1/models/mixed/predict?probabilities=true"
    for rows in (WHOLE, WHOLE[:1]):
        expected = models.server.ok("POST", path, json={"rows": rows})
        inputs = mixed_tensors(rows, binary=binary, wide=wide)
        for outputs in (None, wanted("predictions", "probabilities", binary=binary)):
            answer = client.infer("mixed", inputs, outputs=outputs)
            labels = answer.as_numpy("predictions").tolist()
            texts = [item.decode() if isinstance(item, bytes) else item for item in labels]
            assert texts == expected["predictions"]
            assert set(texts) <= set(KINDS)
            shares = [list(row.values()) for row in expected["probabilities"]]
            assert answer.as_numpy("probabilities").tolist() == shares


def test_the_target_may_be_there(models: Zoo, client: Any) -> None:
    inputs = [*mixed_tensors(WHOLE), tensor("kind", ["whatever"] * 2, "BYTES")]
    answer = client.infer("mixed", inputs, outputs=wanted("predictions", binary=False))
    assert answer.as_numpy("predictions").tolist() == models.predict("mixed", WHOLE)


def test_only_the_outputs_that_are_asked_for(client: Any) -> None:
    for names in (["probabilities"], ["probabilities", "predictions"], ["predictions"]):
        answer = client.infer("mixed", mixed_tensors(WHOLE), outputs=wanted(*names, binary=True))
        assert [output["name"] for output in answer.get_response()["outputs"]] == names
    outputs = [*wanted("probabilities", binary=False), *wanted("predictions", binary=True)]
    answer = client.infer("mixed", mixed_tensors(WHOLE), outputs=outputs)
    assert "data" in answer.get_output("probabilities")
    assert "data" not in answer.get_output("predictions")
    assert answer.as_numpy("predictions").shape == (5,)
    assert answer.as_numpy("probabilities").shape == (5, 3)


# ---------------------------------------------------------------- around it


@pytest.mark.parametrize("answered", [None, "gzip", "deflate"])
@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
def test_compression(models: Zoo, client: Any, sent: str | None, answered: str | None) -> None:
    """The lengths in the headers count what is not compressed."""
    for values, rows in ((VALUES, ROWS), (np.repeat(VALUES, 40, axis=0), ROWS * 40)):
        answer = client.infer(
            "numbers",
            [tensor("input", values)],
            request_compression_algorithm=sent,
            response_compression_algorithm=answered,
        )
        told = models.predict("numbers", rows) if rows is ROWS else None
        assert told is None or answer.as_numpy("predictions").tolist() == told
        assert answer.as_numpy("predictions").shape == (len(rows),)


def test_the_answer_is_compressed_as_told(models: Zoo) -> None:
    body = {"inputs": [{"name": "x", "shape": [7, 8], "datatype": "FP64", "data": VALUES.tolist()}]}
    sizes = {}
    for encoding in ("identity", "gzip", "deflate"):
        headers = {"Accept-Encoding": encoding}
        with models.server.client.stream(
            "POST", "/v2/models/numbers/infer", json=body, headers=headers
        ) as response:
            raw = b"".join(response.iter_raw())
        assert response.headers.get("content-encoding", "identity") == encoding
        assert int(response.headers["content-length"]) == len(raw)
        unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(encoding, bytes)
        sizes[encoding] = len(raw)
        assert json.loads(unpack(raw))["outputs"][0]["shape"] == [7]
    print(sizes)
    assert len(set(sizes.values())) == 3


def test_ids_versions_and_references(models: Zoo, client: Any) -> None:
    inputs = [tensor("input", VALUES)]
    assert client.infer("numbers", inputs, request_id="häh-1").get_response()["id"] == "häh-1"
    first, second = (models.server.ok("GET", f"/v1/models/numbers@{n}") for n in (1, 2))
    for name, version, expected in (
        ("numbers", "1", "1"),
        ("numbers", "2", "2"),
        ("numbers", "", "2"),
        ("numbers@1", "", "1"),
        (first["id"], "", "1"),
        (second["id"], "", "2"),
    ):
        answer = client.infer(name, inputs, model_version=version).get_response()
        assert (answer["model_name"], answer["model_version"]) == ("numbers", expected)


def test_the_client_for_asyncio(models: Zoo) -> None:
    expected = models.predict("numbers", ROWS)

    async def main() -> int:
        url = f"127.0.0.1:{models.server.port}"
        async with triton_aio.InferenceServerClient(url) as client:
            assert await client.is_server_live() is True
            assert await client.is_server_ready() is True
            assert await client.is_model_ready("mixed") is True
            assert await client.is_model_ready("nobody") is False
            assert (await client.get_server_metadata())["name"] == "fitserve"
            assert (await client.get_model_metadata("mixed"))["name"] == "mixed"
            asked = [
                client.infer(
                    "numbers",
                    [tensor("input", VALUES, binary=i % 2 == 0)],
                    outputs=[None, wanted("predictions", binary=False)][i // 2 % 2],
                    request_id=str(i),
                    request_compression_algorithm=[None, "gzip", "deflate"][i % 3],
                    response_compression_algorithm=[None, "gzip", "deflate"][i // 3 % 3],
                )
                for i in range(36)
            ]
            answers = await asyncio.gather(*asked)
            with pytest.raises(InferenceServerException, match="no model 'nobody'"):
                await client.infer("nobody", [tensor("input", VALUES)])
        for i, answer in enumerate(answers):
            assert answer.get_response()["id"] == str(i)
            assert answer.as_numpy("predictions").tolist() == expected
        return len(answers)

    print(asyncio.run(main()), "at once")


# ---------------------------------------------------------------- errors through the client

_NAN = VALUES.copy()
_NAN[2, 3] = np.nan

REFUSED: list[tuple[str, str, list[Any], str, str]] = [
    ("nobody", "", [tensor("input", VALUES)], "404", "there is no model 'nobody'"),
    ("numbers", "9", [tensor("input", VALUES)], "404", "there is no model 'numbers@9'"),
    ("numbers", "x", [tensor("input", VALUES)], "404", "nothing at this path"),
    (
        "numbers",
        "",
        [tensor("outcome", VALUES)],
        "422",
        "no input 'outcome'; this model reads 'inp",
    ),
    ("mixed", "", [tensor("input", VALUES)], "422", "this model reads 'size', 'color'"),
    ("numbers", "", [tensor("input", [["a"] * 8], "BYTES")], "422", "cannot be BYTES"),
    ("numbers", "", [tensor("input", [[True] * 8], "BOOL")], "422", "cannot be BOOL"),
    ("numbers", "", [tensor("input", VALUES[:, :7])], "422", "has the shape [7, 7]"),
    ("numbers", "", [tensor("input", VALUES[0])], "422", "has the shape [8]"),
    ("numbers", "", [tensor("input", VALUES[None])], "422", "has the shape [1, 7, 8]"),
    ("numbers", "", [tensor("input", _NAN)], "422", "'n3' in row 2 is nan"),
    ("numbers", "", [tensor("n0", [np.inf])], "422", "'n1' is missing"),
    ("numbers", "", [tensor("input", [[np.inf] * 8])], "422", "'n0' in row 0 is inf"),
    ("numbers", "", [tensor("input", VALUES[:0])], "422", "no rows to predict"),
    ("numbers", "", [tensor("input", VALUES), tensor("input", VALUES)], "422", "two tensors"),
    ("numbers", "", [tensor("input", np.ones((MOST_ROWS + 1, 8)))], "413", "MAX_PREDICT_ROWS"),
    ("pair", "", [tensor("u", [1.0, np.nan]), tensor("v", [1.0, 2.0])], "422", "a number or null"),
    ("pair", "", [tensor("u", [1.0]), tensor("v", [1.0, 2.0])], "422", "1 values where another"),
    ("pair", "", [tensor("u", [[1.0, 2.0]]), tensor("v", [1.0])], "422", "a feature is [N] or"),
    ("pair", "", [tensor("u", []), tensor("v", [])], "422", "no rows to predict"),
    ("pair", "", [tensor("u", [1.0] * (MOST_ROWS + 1))], "413", "MAX_PREDICT_ROWS"),
    ("mixed", "", mixed_tensors(WHOLE)[:-1], "422", "'zip/code' is missing"),
    (
        "mixed",
        "",
        [tensor("size", ["1"], "BYTES")],
        "422",
        "'size' is a number and cannot be BYTES",
    ),
    ("mixed", "", [tensor("color", [1.0])], "422", "'color' is a category and cannot be FP64"),
    ("mixed", "", [tensor("new", [1], "INT8")], "422", "'new' is a boolean and cannot be INT8"),
    ("mixed", "", [tensor("at", [1], "INT64")], "422", "'at' is a datetime and cannot be INT64"),
]


@pytest.mark.parametrize(("name", "version", "inputs", "status", "says"), REFUSED)
def test_the_client_is_told_what_is_wrong(
    client: Any, name: str, version: str, inputs: list[Any], status: str, says: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(name, inputs, model_version=version)
    assert caught.value.status() == status
    assert says in caught.value.message()


def test_the_client_is_told_of_wrong_outputs_and_dates(client: Any) -> None:
    inputs = [tensor("input", VALUES)]
    for output, says in (
        (
            triton.InferRequestedOutput("nothing"),
            "there is no output 'nothing'; this model has pre",
        ),
        (triton.InferRequestedOutput("probabilities"), "there is no output 'probabilities'"),
        (triton.InferRequestedOutput("predictions", class_count=2), "no classification extension"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            client.infer("numbers", inputs, outputs=[output])
        assert says in caught.value.message()
    wrong = mixed_tensors([{**WHOLE[0], "day": "yesterday"}])
    with pytest.raises(InferenceServerException, match="'day' wants an ISO 8601 date"):
        client.infer("mixed", wrong)
    for call in (client.get_model_metadata, client.get_model_config):
        with pytest.raises(InferenceServerException):
            call("nobody")


# ---------------------------------------------------------------- what no client would send


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
    strings = b"".join((2000).to_bytes(4, "little") + b"x" * 2000 for _ in range(MOST_ROWS))
    assert MOST_JSON < len(strings) < MOST_DECODED
    rows = [dict(WHOLE[0], color="x" * 2000) for _ in range(MOST_ROWS)]
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
        item = {"name": name, "shape": [count], "datatype": DATATYPES.get(name, "BYTES")}
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
    texts = ["", "grün", "青", "\0", "🙂" * 100]
    data = b"".join(len(t.encode()).to_bytes(4, "little") + t.encode() for t in texts)
    body, data = of_strings(data, len(texts))
    rows = [{**WHOLE[0], "color": text} for text in texts]
    answer = post(models.server, body, "mixed", data)
    assert answer.json()["outputs"][0]["data"] == models.predict("mixed", rows)


DEEP = json.loads("[" * 900 + "]" * 900)

WRONG: list[Any] = [
    *([], None, 1, "x", {}, {"inputs": None}, {"inputs": []}, {"inputs": {}}, {"inputs": [None]}),
    *(one(name=name) for name in ("", 1, [], {}, DEEP)),
    *(one(datatype=kind) for kind in ("fp64", "BF16", "", 1, [], {}, [[1]], DEEP)),
    *(one(shape=shape) for shape in ([], "x", 8, [8], [8, 1], [2, 8], [1, 8, 1], [-1, 8], [1] * 9)),
    *(one(shape=shape) for shape in ([2**31 - 1, 2**31 - 1], [2**31 - 1] * 8, [2**31, 8])),
    *(one(shape=shape) for shape in ([True, 8], [1.0, 8], ["1", 8], [None, 8], [10**30, 8], DEEP)),
    *(
        one(data=data)
        for data in ([], [1] * 7, [1] * 9, "x" * 8, 1, {}, [[1] * 9], DEEP, [DEEP] * 8)
    ),
    *(one(data=[value, *[1] * 7]) for value in (True, "1", {}, [1], 1e305)),
    *(one(datatype="INT8", data=[value, *[1] * 7]) for value in (128, -129, 0.5, 2**70)),
    *(one(datatype="UINT64", data=[value, *[1] * 7]) for value in (-1, 2**64)),
    *(one(datatype="FP16", data=[value, *[1] * 7]) for value in (1e5, 100_000, -1e300)),
    one(datatype="FP32", data=[1e39, *[1] * 7]),
    one(data=None),
    one(data=None, parameters={"shared_memory_region": "a", "shared_memory_byte_size": 64}),
    *(one(data=None, parameters=value) for value in ([], "x", 1, [1])),
    {"inputs": one()["inputs"] * 2},
    *({**one(), "id": value} for value in (1, None, [], DEEP)),
    *({**one(), "parameters": value} for value in ([1], "x", 1)),
    *({**one(), "outputs": value} for value in ("x", 1, [1], [{}], [{"name": []}], DEEP)),
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
    sent = 0.1 if "FP" in datatype else 3
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
        for headers in ({}, {"Inference_Header_Content_Length": "9"}):
            response = post(models.server, bomb, Content_Encoding=encoding, **headers)
            assert "larger than" in said(response, 413)
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
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            if (method == "POST") == path.endswith("infer") and method in ("GET", "POST"):
                continue
            response = client.request(method, path)
            said(response, 405)
            assert response.headers["allow"] == ("POST" if path.endswith("infer") else "GET")
            found[405] = found.get(405, 0) + 1
        head = client.head(path)
        assert (head.status_code, head.content) == (405, b"")
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


def test_a_key_is_asked_for_in_the_same_way(tmp_path: Path) -> None:
    with Server(tmp_path / "data", FITSERVE_API_KEY="open sesame") as server:
        for path in [*PATHS, "/v2/x"]:
            method = "POST" if path.endswith("infer") else "GET"
            for headers in ({}, {"Authorization": "Bearer shut"}):
                response = httpx.request(method, server.url + path, headers=headers)
                said(response, 401)
                assert response.headers["www-authenticate"] == "Bearer"
        client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
        key = {"Authorization": "Bearer open sesame"}
        assert client.is_server_live() is False
        assert client.is_server_live(headers=key) is True
        assert client.is_server_ready(headers=key) is True
        with pytest.raises(InferenceServerException, match="FITSERVE_API_KEY"):
            client.infer("numbers", [tensor("input", VALUES)])
        with pytest.raises(InferenceServerException, match="no model 'numbers'"):
            client.infer("numbers", [tensor("input", VALUES)], headers=key)
        client.close()
