"""/v2, the Open Inference Protocol, by NVIDIA's client as it comes."""

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
from tests.support.server import Json, Server
from tests.support.zoo import (
    DATATYPES,
    KINDS,
    MIXED,
    MOST_ROWS,
    NUMBERS,
    ROWS,
    VALUES,
    WHOLE,
    Zoo,
)


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
    columns = {name: [[row[name]] if wide else row[name] for row in rows] for name in MIXED}
    return [
        tensor(name, values, DATATYPES.get(name, "BYTES"), binary=binary)
        for name, values in columns.items()
    ]


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
    (only,) = numbers["inputs"]
    assert (only["name"], only["datatype"], only["shape"]) == ("input", "FP64", [-1, 8])
    assert len(set(only["parameters"]["columns"])) == 8
    assert numbers["outputs"] == [{"name": "predictions", "datatype": "FP64", "shape": [-1]}]
    assert client.get_model_metadata("numbers", "1") == numbers
    mixed = client.get_model_metadata("mixed")
    assert mixed["inputs"] == [
        {"name": name, "datatype": DATATYPES.get(name, "BYTES"), "shape": [-1]} for name in MIXED
    ]
    assert mixed["outputs"] == [
        {"name": "predictions", "datatype": "BYTES", "shape": [-1]},
        {
            "name": "probabilities",
            "datatype": "FP64",
            "shape": [-1, 3],
            "parameters": {"columns": mixed["outputs"][1]["parameters"]["columns"]},
        },
    ]
    assert len(set(mixed["outputs"][1]["parameters"]["columns"])) == 3
    assert [out["shape"] for out in client.get_model_metadata("pair")["outputs"]] == [[-1, 2]]
    flags = client.get_model_metadata("flags")["outputs"]
    assert [out["datatype"] for out in flags] == ["BOOL", "FP64"]


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
    "name", ["input", "input-0", "INPUT__0", "inputs", "x", "data", "features", "args_0", "payload"]
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
    expected = models.predict("numbers", ROWS)
    for values, rows in ((VALUES, ROWS), (np.tile(VALUES, (300, 1)), ROWS * 300)):
        answer = client.infer(
            "numbers",
            [tensor("input", values)],
            request_compression_algorithm=sent,
            response_compression_algorithm=answered,
        )
        told = answer.as_numpy("predictions").tolist()
        assert len(told) == len(rows)
        assert told == pytest.approx(expected * (len(rows) // 7))


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
        unpack: Any = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(encoding, bytes)
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
    (
        "numbers",
        "9",
        [tensor("input", VALUES)],
        "404",
        "'numbers' has no version 9; its newest is 2",
    ),
    ("numbers", "x", [tensor("input", VALUES)], "404", "nothing at this path"),
    (
        "numbers",
        "",
        [tensor("outcome", VALUES[:, :3])],
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
    with pytest.raises(InferenceServerException, match="there is no model 'nobody'"):
        client.get_model_metadata("nobody")


def test_the_client_with_a_key(tmp_path: Path) -> None:
    with Server(tmp_path / "data", FITSERVE_API_KEY="open sesame") as server:
        key = {"Authorization": "Bearer open sesame"}
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            assert client.is_server_live() is False
            assert client.is_server_ready(headers=key) is True
            with pytest.raises(InferenceServerException, match="FITSERVE_API_KEY"):
                client.infer("numbers", [tensor("input", VALUES)])
            with pytest.raises(InferenceServerException, match="no model 'numbers'"):
                client.infer("numbers", [tensor("input", VALUES)], headers=key)
        for path in ("/v2", "/v2/models/numbers", "/v2/models/numbers/ready", "/v2/x"):
            response = httpx.get(server.url + path, trust_env=False)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json().keys() == {"error"}
        response = httpx.post(server.url + "/v2/models/x/infer", json={}, trust_env=False)
        assert response.status_code == 401
        assert response.json().keys() == {"error"}
