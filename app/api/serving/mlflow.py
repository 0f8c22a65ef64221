"""``POST /invocations``: MLflow's scoring protocol for the model in ``FITSERVE_DEFAULT_MODEL``.

As MLflow's documentation of its "local inference server" has it: ``dataframe_split``,
``dataframe_records``, ``instances``, ``inputs`` or CSV in, ``{"predictions": [...]}`` out. As
there, columns that the model does not know are passed over.
"""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import nan
from typing import TYPE_CHECKING, Any

import orjson

from app.api.http.responses import dump_json
from app.api.serving.asgi_io import ASGIRequest, ASGIResponse
from app.api.serving.engine import FILE_OPTIONS, Engine, version_header
from app.api.uploads import FORMATS
from app.errors import InvalidJSON, InvalidRequest, NotFound, UnsupportedMediaType
from app.ml.features.feature_tables import no_rows
from app.ml.features.places import in_columns, in_lists
from app.services.predictions.files import JSON, OutputFormat
from app.services.predictions.requests import encode_table, limit_rows, matrix_of, one_row_matrix
from app.services.predictions.resolver import LoadedModel
from app.strict_json import parse_fast

if TYPE_CHECKING:
    from app.ml.column_types.fitted import Matrix

_LAYOUTS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def default_model(ref: str | None) -> str:
    """Return the reference in ``FITSERVE_DEFAULT_MODEL``. Raises NotFound where there is none."""
    if ref is None:
        raise NotFound(
            "no model answers here; start the server with FITSERVE_DEFAULT_MODEL=name, or ask "
            "/v1/models/{name}/predict"
        )
    return ref


async def invocations(engine: Engine, request: ASGIRequest) -> ASGIResponse:
    """Return the predictions of the default model.

    Raises NotFound, ArtifactCorrupt, or InvalidInput of any kind.
    """
    is_csv = FORMATS.get(request.media_type) == "csv"
    query = request.query(*FILE_OPTIONS if is_csv else ())
    model = await engine.model(default_model(engine.settings.default_model))
    if is_csv:
        bare = OutputFormat(bare=True)
        tables = model.predictor.lenient_tables
        return await engine.predict_file(request, model, query, bare, tables)
    if not request.is_json:
        raise UnsupportedMediaType(
            f"cannot read '{request.media_type[:64]}'; send application/json or text/csv"
        )
    max_rows = engine.settings.max_predict_rows
    body = await request.body(engine.settings.max_json_bytes)
    outputs = await engine.outputs(model, body, lambda: _read(model, _parse(body), max_rows))
    document = await engine.serialized(
        len(outputs), lambda: dump_json({"predictions": model.predictor.predictions(outputs)})
    )
    return ASGIResponse(document, JSON, version_header(model))


def _parse(body: bytes) -> Any:
    """Return JSON; MLflow's client writes ``NaN`` where a data frame has gaps, read as null."""
    try:
        return parse_fast(body)
    except InvalidJSON:
        if b"NaN" not in body:
            raise
        with suppress(ValueError, TypeError, RecursionError):
            value = json.loads(body, parse_constant=_nan_only)
            return orjson.loads(orjson.dumps(value))  # which writes NaN as null
        raise


def _nan_only(constant: str) -> float:
    if constant != "NaN":
        raise ValueError(constant)
    return nan


def _read(model: LoadedModel, body: Any, max_rows: int) -> "Matrix":
    if not isinstance(body, dict):
        raise InvalidRequest.at("", f"send an object with one of {', '.join(_LAYOUTS)}")
    keys = [key for key in body if key != "params"]
    if body.get("params"):
        raise InvalidRequest.at("/params", "this model has no parameters; leave 'params' out")
    if len(keys) != 1 or keys[0] not in _LAYOUTS:
        raise InvalidRequest.at("", f"send exactly one of {', '.join(_LAYOUTS)}")
    (key,) = keys
    return _READERS[key](model, body[key], max_rows, f"/{key}")


def _split(model: LoadedModel, value: Any, max_rows: int, pointer: str) -> "Matrix":
    """Return the matrix of ``{"columns": [...], "data": [[...]]}``; the index says nothing."""
    parts = value if isinstance(value, dict) else {}
    columns, data = parts.get("columns"), parts.get("data")
    if not isinstance(columns, list) or not isinstance(data, list) or not _are_names(columns):
        raise InvalidRequest.at(pointer, 'this wants {"columns": ["x"], "data": [[0.5]]}')
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        detail = f"two columns are called '{twice[0][:64]}'; rename one"
        raise InvalidRequest.at(pointer, detail, "repeated")
    limit_rows(len(data), max_rows, f"{pointer}/data")
    if len(data) == 1 and columns == model.predictor.row.names:
        x = one_row_matrix(model.predictor, "instances", data[0])
        if x is not None:
            return x
    at = f"{pointer}/data"
    table = model.predictor.lenient_tables.of_instances(data, at, columns)
    return encode_table(model.predictor, table, at, in_lists(columns, at))


def _are_names(columns: list[Any]) -> bool:
    return all(isinstance(name, str) for name in columns)


def _records(model: LoadedModel, value: Any, max_rows: int, pointer: str) -> "Matrix":
    return _rows(model, value, max_rows, pointer, "rows")


def _tensors(model: LoadedModel, value: Any, max_rows: int, pointer: str) -> "Matrix":
    """Return the matrix of TensorFlow Serving's ``instances`` or ``inputs``: rows, lists of values,
    or columns."""
    if isinstance(value, dict):
        columns = {name: _flat_column(items) for name, items in value.items()}
        table = model.predictor.lenient_tables.of_columns(columns, pointer)
        limit_rows(table.num_rows, max_rows, pointer)
        return encode_table(model.predictor, table, pointer, in_columns(pointer))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _rows(model, value, max_rows, pointer, "rows")
    if isinstance(value, list) and len(model.predictor.row.names) == 1:
        value = [item if isinstance(item, list) else [item] for item in value]
    return _rows(model, value, max_rows, pointer, "instances")


def _flat_column(items: Any) -> Any:
    """Return a column as ``[N]``, also where it came as ``[N, 1]``."""
    if isinstance(items, list) and all(isinstance(i, list) and len(i) == 1 for i in items):
        return [item[0] for item in items]
    return items


def _rows(model: LoadedModel, value: Any, max_rows: int, pointer: str, key: str) -> "Matrix":
    if not isinstance(value, list):
        raise InvalidRequest.at(pointer, "this wants a list")
    if not value:
        raise no_rows(pointer)
    return matrix_of(model.predictor, key, value, max_rows, pointer, model.predictor.lenient_tables)


_READERS: dict[str, Callable[[LoadedModel, Any, int, str], "Matrix"]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _tensors,
    "inputs": _tensors,
}
