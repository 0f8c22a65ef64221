"""Open Inference Protocol v2: ``infer`` with the binary tensor extension, and what a model is.

A model whose features are all numbers reads one tensor ``input`` of shape ``[N, F]`` (its usual
other names will do), every model one tensor a feature, ``[N]`` or ``[N, 1]``: numbers of any
datatype, ``BOOL``, and ``BYTES`` for categories and dates. ``null`` in JSON data is a missing
value. It answers ``predictions``, and ``probabilities`` where there are any.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.api.http.bodies import parse_fast, too_large
from app.api.http.responses import dump_json
from app.api.serving.asgi_io import ASGIRequest, ASGIResponse
from app.api.serving.engine import Engine, named
from app.api.serving.tensors import NUMBERS, Tensor, pack, tensors_of
from app.errors import InvalidRequest
from app.ml.features.encoder import Feature
from app.ml.features.feature_tables import no_rows
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets
from app.services.predictions.files import JSON
from app.services.predictions.requests import encode_table, limit_rows
from app.services.predictions.resolver import LoadedModel

if TYPE_CHECKING:
    from app.ml.features.encoder import Matrix

INPUT = "input"
_ALSO_INPUT = re.compile(r"(?i)(inputs?|features?|instances|data|x)([_-]*0)?")
"""What KServe's, MLServer's and Triton's examples request the only tensor."""

_DATATYPES = {
    "number": {*NUMBERS},
    "boolean": {"BOOL"},
    "category": {"BYTES"},
    "datetime": {"BYTES"},
}
_WHOLE = re.compile(r"[0-9]{1,18}")
_HEAD = b"inference-header-content-length"
_OCTETS = "application/octet-stream"
_COMPRESS: dict[str, Callable[[Any], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


async def infer(engine: Engine, request: ASGIRequest, ref: str) -> ASGIResponse:
    """Outputs of one version for the tensors of a request."""
    request.query()
    live = await engine.live(ref)
    length = request.header(_HEAD)
    settings = engine.settings
    body = await request.body(settings.max_decoded_bytes if length else settings.max_json_bytes)
    asked: dict[str, Any] = {}

    def read() -> "Matrix":
        document, rest = _parts(body, length, settings.max_json_bytes)
        asked.update(id=document.get("id"), outputs=_wanted(live, document))
        tensors = tensors_of(document.get("inputs"), rest)
        return _matrix(live, tensors, settings.max_predict_rows)

    outputs = await engine.outputs(live, body, read)
    encoding = request.header(b"accept-encoding").strip().lower()
    if encoding in _COMPRESS:  # who accepts a list leaves it to us, and most answers are small
        return await engine.in_thread(lambda: _answer(live, asked, outputs, encoding))
    return await engine.written(len(outputs), lambda: _answer(live, asked, outputs))


def described(live: LoadedModel, versions: Sequence[str]) -> dict[str, Any]:
    """The model's metadata as the protocol has it."""
    empty = np.zeros((1, live.predictor.card.outputs), np.float32)
    outputs: list[dict[str, Any]] = []
    for name in _outputs(live):
        datatype, values = _values(live, name, empty)
        shape = [-1, *values.shape[1:]]
        outputs.append({"name": name, "datatype": datatype, "shape": shape})
        columns = live.predictor.labels if name == "probabilities" else live.predictor.target.names
        if len(shape) > 1:
            outputs[-1]["parameters"] = {"columns": columns}
    return {
        "name": live.name,
        "versions": list(versions),
        "platform": "pytorch_fitserve",
        "inputs": described_inputs(live.predictor.features),
        "outputs": outputs,
    }


def described_inputs(features: Sequence[Feature]) -> list[dict[str, Any]]:
    """One tensor for numbers alone, else one a feature."""
    if all(feature.type == "number" for feature in features):
        columns = [feature.name for feature in features]
        tensor = {"name": INPUT, "datatype": "FP64", "shape": [-1, len(features)]}
        return [{**tensor, "parameters": {"columns": columns}}]
    datatypes = {"number": "FP64", "boolean": "BOOL"}
    return [
        {"name": f.name, "datatype": datatypes.get(f.type, "BYTES"), "shape": [-1]}
        for f in features
    ]


# ---------------------------------------------------------------- in


def _parts(body: bytes, length: str, limit: int) -> tuple[dict[str, Any], memoryview]:
    """The request's JSON, of at most ``limit`` bytes, and the binary data behind it.

    Raises InvalidRequest, InvalidJSON or TooLarge.
    """
    if length and not (_WHOLE.fullmatch(length) and 0 < int(length) <= len(body)):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is '{length[:64]}', but the body has {len(body)} "
            "bytes once unpacked; send the length of the JSON in front of the binary data"
        )
    end = int(length) if length else len(body)
    if end > limit:
        raise too_large(limit)
    document = parse_fast(memoryview(body)[:end])
    if not isinstance(document, dict):
        raise InvalidRequest.at("", 'send an object with "inputs"')
    if not isinstance(document.get("id", ""), str):
        raise InvalidRequest.at("/id", "'id' should be a string")
    return document, memoryview(body)[end:]


def _matrix(live: LoadedModel, tensors: list[Tensor], most: int) -> "Matrix":
    predictor = live.predictor
    first, names = tensors[0], predictor.row.names
    alone = len(tensors) == 1 and first.name not in names and _ALSO_INPUT.fullmatch(first.name)
    if alone and all(feature.type == "number" for feature in predictor.features):
        return _numbers(live, first, most)
    types = predictor.types
    columns: dict[str, Any] = {}
    for tensor in tensors:
        if tensor.name not in types and tensor.name not in predictor.target.names:
            reads = described_inputs(predictor.features)
            listed = ", ".join(f"'{item['name']}'" for item in reads)[:512]
            detail = f"there is no input '{tensor.name[:64]}'; this model reads {listed}"
            raise InvalidRequest.at(f"{tensor.at}/name", detail, "unknown")
        if tensor.name in types:
            _check_column(tensor, types[tensor.name], most)
        columns[tensor.name] = tensor.values.tolist()
    return encode_table(predictor, predictor.tables.of_columns(columns, "/inputs"), "/inputs")


def _numbers(live: LoadedModel, tensor: Tensor, most: int) -> "Matrix":
    """One tensor ``[N, F]``."""
    predictor, names = live.predictor, live.predictor.row.names
    if tensor.datatype not in NUMBERS:
        raise _wrong_datatype(tensor, "number", NUMBERS)
    if len(tensor.shape) != 2 or tensor.shape[1] != len(names):
        raise InvalidRequest.at(
            f"{tensor.at}/shape",
            f"'{tensor.name[:64]}' has the shape {list(tensor.shape)}; this model reads "
            f"[N, {len(names)}]: {', '.join(names)[:256]}",
        )
    rows = tensor.shape[0]
    limit_rows(rows, most, tensor.at)
    if not rows:
        raise no_rows()
    if tensor.values.dtype == object:  # there are gaps, which only JSON can say
        listed = tensor.values.reshape(tensor.shape).tolist()
        table = predictor.tables.of_instances(listed, f"{tensor.at}/data")
        return encode_table(predictor, table, tensor.at)
    values = tensor.values.astype(np.float64).reshape(tensor.shape)
    finite = np.isfinite(values)
    if not finite.all():
        row, place = (int(i) for i in np.argwhere(~finite)[0])
        raise InvalidRequest.at(
            f"{tensor.at}/data/{row * len(names) + place}",
            f"'{names[place][:64]}' in row {row} is {values[row, place]}; send a number, or null "
            "in JSON data where it is unknown",
        )
    if rows == 1:
        x = predictor.row.of_values(values[0].tolist())
        if x is not None:
            return x
    table = pa.table([pa.array(c) for c in values.T.copy()], names=names)
    return encode_table(predictor, table, tensor.at)


def _check_column(tensor: Tensor, kind: str, most: int) -> None:
    if tensor.datatype not in _DATATYPES[kind]:
        raise _wrong_datatype(tensor, kind, _DATATYPES[kind])
    if len(tensor.shape) != 1 and tensor.shape[1:] != (1,):
        raise InvalidRequest.at(
            f"{tensor.at}/shape",
            f"'{tensor.name[:64]}' has the shape {list(tensor.shape)}; a feature is [N] or [N, 1]",
        )
    limit_rows(tensor.shape[0], most, tensor.at)


def _wrong_datatype(tensor: Tensor, kind: str, known: set[str] | dict[str, Any]) -> InvalidRequest:
    return InvalidRequest.at(
        f"{tensor.at}/datatype",
        f"'{tensor.name[:64]}' is a {kind} and cannot be {tensor.datatype}; "
        f"send {' or '.join(sorted(known))}",
        "wrong_type",
    )


# ---------------------------------------------------------------- out


def _outputs(live: LoadedModel) -> tuple[str, ...]:
    return ("predictions", "probabilities") if live.predictor.labels else ("predictions",)


def _wanted(live: LoadedModel, document: dict[str, Any]) -> dict[str, bool]:
    """The outputs to answer, and whether each as binary data. Raises InvalidRequest."""
    binary = _parameters(document, "").get("binary_data_output") is True
    known = _outputs(live)
    given = document.get("outputs")
    if not given:
        return dict.fromkeys(known, binary)
    wanted: dict[str, bool] = {}
    for i, output in enumerate(given if isinstance(given, list) else [given]):
        at = f"/outputs/{i}"
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str) or name not in known:
            said = (
                f"there is no output '{name[:64]}'" if isinstance(name, str) else "name an output"
            )
            detail = f"{said}; this model has {', '.join(known)}"
            raise InvalidRequest.at(f"{at}/name", detail, "unknown")
        parameters = _parameters(output, at)
        if parameters.get("classification"):
            detail = "no classification extension here; ask for 'probabilities'"
            raise InvalidRequest.at(f"{at}/parameters/classification", detail)
        wanted[name] = bool(parameters.get("binary_data", binary))
    return wanted


def _parameters(holder: dict[str, Any], at: str) -> dict[str, Any]:
    parameters = holder.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequest.at(f"{at}/parameters", "'parameters' should be an object")
    return parameters


def _answer(
    live: LoadedModel, asked: dict[str, Any], outputs: "Matrix", encoding: str = ""
) -> ASGIResponse:
    told: dict[str, Any] = {"model_name": live.name, "model_version": str(live.version)}
    if asked["id"] is not None:
        told["id"] = asked["id"]
    told["outputs"] = []
    binary = []
    for name, as_binary in asked["outputs"].items():
        datatype, values = _values(live, name, outputs)
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
        if as_binary:
            binary.append(pack(datatype, values))
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        else:  # the encoder takes arrays, but none of strings
            output["data"] = values.ravel().tolist() if datatype == "BYTES" else values.ravel()
        told["outputs"].append(output)
    head = dump_json(told)
    headers = dict(named(live))
    if binary:
        headers["Inference-Header-Content-Length"] = str(len(head))
    body = b"".join([head, *binary])
    if encoding in _COMPRESS:
        headers["Content-Encoding"] = encoding
        body = _COMPRESS[encoding](body)
    return ASGIResponse(body, _OCTETS if binary else JSON, headers)


def _values(live: LoadedModel, name: str, outputs: "Matrix") -> tuple[str, NDArray[Any]]:
    """Datatype and array of one output: ``[N]``, or ``[N, K]`` where there are several a row."""
    target = live.predictor.target
    if name == "probabilities":
        return "FP64", live.predictor.shares(outputs)
    match target:
        case NumberTargets():
            numbers = target.decode(outputs)
            return "FP64", numbers[:, 0] if len(target.names) == 1 else numbers
        case LabelTargets():
            return "BOOL", target.probabilities(outputs) > 0.5
        case ClassTarget():
            datatype = _of_class(target.classes)
            labels = live.predictor.predictions(outputs)
            return datatype, np.array(labels, object if datatype == "BYTES" else None)


def _of_class(classes: Sequence[Any]) -> str:
    if all(isinstance(value, bool) for value in classes):
        return "BOOL"
    if all(isinstance(value, str) for value in classes):
        return "BYTES"
    return "INT64" if all(isinstance(value, int) for value in classes) else "FP64"
