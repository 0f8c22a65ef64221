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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.api.http.bodies import too_large
from app.api.http.responses import dump_json
from app.api.serving.asgi_io import ASGIRequest, ASGIResponse
from app.api.serving.engine import Engine, version_header
from app.api.serving.tensors import NUMBERS, Tensor, pack_binary, read_tensors
from app.errors import InvalidRequest
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.registry import COLUMN_TYPES
from app.ml.features.encoder import Feature
from app.ml.features.feature_tables import no_rows
from app.ml.features.preprocessing import ClassTarget, LabelTargets, NumberTargets
from app.services.predictions.files import JSON
from app.services.predictions.requests import encode_table, limit_rows
from app.services.predictions.resolver import LoadedModel
from app.strict_json import parse_fast

if TYPE_CHECKING:
    from app.ml.column_types.fitted import Matrix

INPUT = "input"
_ALSO_INPUT = re.compile(r"(?i)(inputs?|features?|instances|data|x)([_-]*0)?")
"""What KServe's, MLServer's and Triton's examples call the only tensor."""

_WHOLE = re.compile(r"[0-9]{1,18}")
_JSON_LENGTH = b"inference-header-content-length"
_OCTETS = "application/octet-stream"
_COMPRESS: dict[str, Callable[[Any], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


@dataclass(slots=True)
class _Reply:
    """What a request says of its reply: its id, and its outputs, each whether as binary data."""

    id: str | None = None
    outputs: dict[str, bool] = field(default_factory=dict)


async def infer(engine: Engine, request: ASGIRequest, ref: str) -> ASGIResponse:
    """Return the outputs of the model ``ref`` for the tensors of a request.

    Raises NotFound, ArtifactCorrupt, or InvalidInput of any kind.
    """
    request.query()
    model = await engine.model(ref)
    json_length = request.header(_JSON_LENGTH)
    settings = engine.settings
    max_bytes = settings.max_decoded_bytes if json_length else settings.max_json_bytes
    body = await request.body(max_bytes)
    reply = _Reply()

    def read() -> "Matrix":
        document, binary = _split(body, json_length, settings.max_json_bytes)
        reply.id, reply.outputs = document.get("id"), _requested_outputs(model, document)
        tensors = read_tensors(document.get("inputs"), binary)
        return _matrix(model, tensors, settings.max_predict_rows)

    outputs = await engine.outputs(model, body, read)
    coding = request.header(b"accept-encoding").strip().lower()
    if coding in _COMPRESS:  # who accepts a list leaves it to us, and most answers are small
        return await engine.in_thread(lambda: _response(model, reply, outputs, coding))
    return await engine.serialized(len(outputs), lambda: _response(model, reply, outputs))


def metadata(model: LoadedModel, versions: Sequence[str]) -> dict[str, Any]:
    """Return the model's metadata as the protocol has it."""
    empty = np.zeros((1, model.predictor.card.outputs), np.float32)
    outputs: list[dict[str, Any]] = []
    for name in _output_names(model):
        datatype, values = _output_values(model, name, empty)
        shape = [-1, *values.shape[1:]]
        outputs.append({"name": name, "datatype": datatype, "shape": shape})
        if len(shape) > 1:
            predictor = model.predictor
            columns = predictor.labels if name == "probabilities" else predictor.target.names
            outputs[-1]["parameters"] = {"columns": columns}
    return {
        "name": model.name,
        "versions": list(versions),
        "platform": "pytorch_fitserve",
        "inputs": _input_metadata(model.predictor.features),
        "outputs": outputs,
    }


def _input_metadata(features: Sequence[Feature]) -> list[dict[str, Any]]:
    """Return one tensor ``[N, F]`` for numbers alone, else one a feature."""
    if all(feature.type == "number" for feature in features):
        columns = [feature.name for feature in features]
        tensor = {"name": INPUT, "datatype": "FP64", "shape": [-1, len(features)]}
        return [{**tensor, "parameters": {"columns": columns}}]
    return [
        {"name": f.name, "datatype": COLUMN_TYPES[f.type].datatype, "shape": [-1]} for f in features
    ]


# ---------------------------------------------------------------- in


def _split(body: bytes, json_length: str, max_json_bytes: int) -> tuple[dict[str, Any], memoryview]:
    """Return the request's JSON and the binary data behind it; ``json_length`` is the header that
    says where the one ends, empty where all is JSON.

    Raises InvalidRequest, InvalidJSON or TooLarge.
    """
    if json_length and not (_WHOLE.fullmatch(json_length) and 0 < int(json_length) <= len(body)):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is '{json_length[:64]}', but the body has "
            f"{len(body)} bytes once unpacked; send the length of the JSON in front of the binary "
            "data"
        )
    end = int(json_length) if json_length else len(body)
    if end > max_json_bytes:
        raise too_large(max_json_bytes)
    document = parse_fast(memoryview(body)[:end])
    if not isinstance(document, dict):
        raise InvalidRequest.at("", 'send an object with "inputs"')
    if not isinstance(document.get("id", ""), str):
        raise InvalidRequest.at("/id", "'id' should be a string")
    return document, memoryview(body)[end:]


def _matrix(model: LoadedModel, tensors: list[Tensor], max_rows: int) -> "Matrix":
    predictor = model.predictor
    first, names = tensors[0], predictor.row.names
    wide = len(first.shape) == 2 and first.shape[1] == len(names)  # then whatever its name
    usual = first.name not in names and _ALSO_INPUT.fullmatch(first.name)
    alone = len(tensors) == 1 and (wide or usual)
    if alone and all(feature.type == "number" for feature in predictor.features):
        return _numbers(model, first, max_rows)
    types = predictor.types
    columns: dict[str, Any] = {}
    pointers = {tensor.name: tensor.pointer for tensor in tensors}
    for tensor in tensors:
        if tensor.name not in types and tensor.name not in predictor.ignored:
            reads = _input_metadata(predictor.features)
            listed = ", ".join(f"'{item['name']}'" for item in reads)[:512]
            detail = f"there is no input '{tensor.name[:64]}'; this model reads {listed}"
            if len(reads) == 1:
                detail += f" of the shape {['N', *reads[0]['shape'][1:]]}".replace("'", "")
            raise InvalidRequest.at(f"{tensor.pointer}/name", detail, "unknown")
        if tensor.name in types:
            _check_column(tensor, types[tensor.name], max_rows)
            columns[tensor.name] = tensor.values.tolist()

    def place(name: str, row: int) -> str:
        return f"{pointers[name]}/data/{row}"

    table = predictor.tables.of_columns(columns, "/inputs", place)
    return encode_table(predictor, table, "/inputs", place)


def _numbers(model: LoadedModel, tensor: Tensor, max_rows: int) -> "Matrix":
    """Return the matrix of one tensor ``[N, F]``."""
    predictor, names = model.predictor, model.predictor.row.names
    if tensor.datatype not in NUMBERS:
        raise _wrong_datatype(tensor, "number", NUMBERS)
    if len(tensor.shape) != 2 or tensor.shape[1] != len(names):
        raise InvalidRequest.at(
            f"{tensor.pointer}/shape",
            f"'{tensor.name[:64]}' has the shape {list(tensor.shape)}; this model reads "
            f"[N, {len(names)}]: {', '.join(names)[:256]}",
        )
    numbers = {name: number for number, name in enumerate(names)}

    def place(name: str, row: int) -> str:
        return f"{tensor.pointer}/data/{row * len(names) + numbers[name]}"

    rows = tensor.shape[0]
    limit_rows(rows, max_rows, tensor.pointer)
    if not rows:
        raise no_rows()
    if tensor.values.dtype == object:  # there are gaps, which only JSON can say
        listed = tensor.values.reshape(tensor.shape).tolist()
        table = predictor.tables.of_instances(listed, f"{tensor.pointer}/data")
        return encode_table(predictor, table, tensor.pointer, place)
    values = tensor.values.astype(np.float64).reshape(tensor.shape)
    finite = np.isfinite(values)
    if not finite.all():
        row, number = (int(i) for i in np.argwhere(~finite)[0])
        raise InvalidRequest.at(
            place(names[number], row),
            f"'{names[number][:64]}' in row {row} is {values[row, number]}; send a number, or null "
            "in JSON data where it is unknown",
        )
    if rows == 1:
        x = predictor.row.of_values(values[0].tolist())
        if x is not None:
            return x
    table = pa.table([pa.array(c) for c in values.T.copy()], names=names)
    return encode_table(predictor, table, tensor.pointer, place)


def _check_column(tensor: Tensor, kind: TypeName, max_rows: int) -> None:
    datatype = COLUMN_TYPES[kind].datatype
    known = {*NUMBERS} if datatype in NUMBERS else {datatype}
    if tensor.datatype not in known:
        raise _wrong_datatype(tensor, kind, known)
    if len(tensor.shape) != 1 and tensor.shape[1:] != (1,):
        raise InvalidRequest.at(
            f"{tensor.pointer}/shape",
            f"'{tensor.name[:64]}' has the shape {list(tensor.shape)}; a feature is [N] or [N, 1]",
        )
    limit_rows(tensor.shape[0], max_rows, tensor.pointer)


def _wrong_datatype(tensor: Tensor, kind: str, known: set[str] | dict[str, Any]) -> InvalidRequest:
    return InvalidRequest.at(
        f"{tensor.pointer}/datatype",
        f"'{tensor.name[:64]}' is a {kind} and cannot be {tensor.datatype}; "
        f"send {' or '.join(sorted(known))}",
        "wrong_type",
    )


# ---------------------------------------------------------------- out


def _output_names(model: LoadedModel) -> tuple[str, ...]:
    return ("predictions", "probabilities") if model.predictor.labels else ("predictions",)


def _requested_outputs(model: LoadedModel, document: dict[str, Any]) -> dict[str, bool]:
    """Return the names of the outputs to send, each whether as binary data; all where the request
    names none. Raises InvalidRequest."""
    binary = _parameters(document, "").get("binary_data_output") is True
    known = _output_names(model)
    outputs = document.get("outputs")
    if not isinstance(outputs, list | None):
        raise InvalidRequest.at("/outputs", "'outputs' should be a list of objects with a name")
    if not outputs:
        return dict.fromkeys(known, binary)
    requested: dict[str, bool] = {}
    for i, output in enumerate(outputs):
        pointer = f"/outputs/{i}"
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str) or name not in known:
            wrong = (
                f"there is no output '{name[:64]}'" if isinstance(name, str) else "name an output"
            )
            detail = f"{wrong}; this model has {', '.join(known)}"
            raise InvalidRequest.at(f"{pointer}/name", detail, "unknown")
        parameters = _parameters(output, pointer)
        if parameters.get("classification"):
            detail = "no classification extension here; ask for 'probabilities'"
            raise InvalidRequest.at(f"{pointer}/parameters/classification", detail)
        requested[name] = bool(parameters.get("binary_data", binary))
    return requested


def _parameters(holder: dict[str, Any], pointer: str) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest.at(f"{pointer}/parameters", "'parameters' should be an object")
    return parameters


def _response(
    model: LoadedModel, reply: _Reply, outputs: "Matrix", coding: str = ""
) -> ASGIResponse:
    """Return ``(rows, outputs)`` as tensors; ``coding`` compresses them."""
    document: dict[str, Any] = {"model_name": model.name, "model_version": str(model.version)}
    if reply.id is not None:
        document["id"] = reply.id
    document["outputs"] = []
    binary = []
    for name, as_binary in reply.outputs.items():
        datatype, values = _output_values(model, name, outputs)
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
        if as_binary:
            binary.append(pack_binary(datatype, values))
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        else:  # the encoder takes arrays, but none of strings
            output["data"] = values.ravel().tolist() if datatype == "BYTES" else values.ravel()
        document["outputs"].append(output)
    head = dump_json(document)
    headers = version_header(model)
    if binary:
        headers["Inference-Header-Content-Length"] = str(len(head))
    body = b"".join([head, *binary])
    if coding in _COMPRESS:
        headers["Content-Encoding"] = coding
        body = _COMPRESS[coding](body)
    return ASGIResponse(body, _OCTETS if binary else JSON, headers)


def _output_values(model: LoadedModel, name: str, outputs: "Matrix") -> tuple[str, NDArray[Any]]:
    """Return datatype and array of one output: ``[N]``, or ``[N, K]`` for several a row."""
    target = model.predictor.target
    if name == "probabilities":
        return "FP64", model.predictor.shares(outputs)
    match target:
        case NumberTargets():
            numbers = target.decode(outputs)
            return "FP64", numbers[:, 0] if len(target.names) == 1 else numbers
        case LabelTargets():
            return "BOOL", target.probabilities(outputs) > 0.5
        case ClassTarget():
            datatype = _class_datatype(target.classes)
            labels = model.predictor.predictions(outputs)
            return datatype, np.array(labels, object if datatype == "BYTES" else None)


def _class_datatype(classes: Sequence[Any]) -> str:
    if all(isinstance(value, bool) for value in classes):
        return "BOOL"
    if all(isinstance(value, str) for value in classes):
        return "BYTES"
    return "INT64" if all(isinstance(value, int) for value in classes) else "FP64"
