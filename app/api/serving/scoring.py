"""``POST /invocations``: MLflow's scoring protocol for the model in ``FITSERVE_DEFAULT_MODEL``.

As MLflow's documentation of its "local inference server" has it: ``dataframe_split``,
``dataframe_records``, ``instances``, ``inputs`` or CSV in, ``{"predictions": [...]}`` out.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from math import nan
from typing import TYPE_CHECKING, Any

import orjson

from app.api.http.bodies import parse_fast
from app.api.http.responses import dump_json
from app.api.serving.asgi_io import ASGIRequest, ASGIResponse
from app.api.serving.engine import READING, Engine, named
from app.api.uploads import FORMATS
from app.errors import InvalidJSON, InvalidRequest, NotFound, UnsupportedMediaType
from app.ml.features.feature_tables import no_rows
from app.services.predictions.files import JSON, Wanted
from app.services.predictions.requests import encode_table, limit_rows, matrix_of, one_row_matrix
from app.services.predictions.resolver import LoadedModel

if TYPE_CHECKING:
    from app.ml.features.encoder import Matrix

_SHAPES = ("dataframe_split", "dataframe_records", "instances", "inputs")


def default_model(ref: str | None) -> str:
    """The reference in ``FITSERVE_DEFAULT_MODEL``. Raises NotFound where there is none."""
    if ref is None:
        raise NotFound(
            "no model answers here; start the server with FITSERVE_DEFAULT_MODEL=name, or ask "
            "/v1/models/{name}/predict"
        )
    return ref


async def invocations(engine: Engine, request: ASGIRequest) -> ASGIResponse:
    """Predictions of the default model."""
    is_csv = FORMATS.get(request.media_type) == "csv"
    given = request.query(*READING if is_csv else ())
    live = await engine.live(default_model(engine.settings.default_model))
    if is_csv:
        return await engine.of_file(request, live, given, Wanted(bare=True))
    if not request.is_json:
        raise UnsupportedMediaType(
            f"cannot read '{request.media_type[:64]}'; send application/json or text/csv"
        )
    most = engine.settings.max_predict_rows
    body = await request.body(engine.settings.max_json_bytes)
    outputs = await engine.outputs(live, body, lambda: _read(live, _decoded(body), most))
    told = await engine.written(
        len(outputs), lambda: dump_json({"predictions": live.predictor.predictions(outputs)})
    )
    return ASGIResponse(told, JSON, named(live))


def _decoded(body: bytes) -> Any:
    """JSON, also with the ``NaN`` that MLflow's client writes where a data frame has gaps."""
    try:
        return parse_fast(body)
    except InvalidJSON:
        if b"NaN" not in body:
            raise
        with suppress(ValueError, TypeError, RecursionError):
            return orjson.loads(orjson.dumps(json.loads(body, parse_constant=_gap)))  # NaN: null
        raise


def _gap(constant: str) -> float:
    if constant != "NaN":
        raise ValueError(constant)
    return nan


def _read(live: LoadedModel, body: Any, most: int) -> "Matrix":
    if not isinstance(body, dict):
        raise InvalidRequest.at("", f"send an object with one of {', '.join(_SHAPES)}")
    given = [key for key in body if key != "params"]
    if body.get("params"):
        raise InvalidRequest.at("/params", "this model has no parameters; leave 'params' out")
    if len(given) != 1 or given[0] not in _SHAPES:
        raise InvalidRequest.at("", f"send exactly one of {', '.join(_SHAPES)}")
    (key,) = given
    return _READERS[key](live, body[key], most, f"/{key}")


def _split(live: LoadedModel, value: Any, most: int, at: str) -> "Matrix":
    """``{"columns": [...], "data": [[...]]}``; the index says nothing."""
    parts = value if isinstance(value, dict) else {}
    columns, data = parts.get("columns"), parts.get("data")
    if not isinstance(columns, list) or not isinstance(data, list) or not _are_names(columns):
        raise InvalidRequest.at(at, 'this wants {"columns": ["x"], "data": [[0.5]]}')
    limit_rows(len(data), most, f"{at}/data")
    if len(data) == 1 and columns == live.predictor.row.names:
        x = one_row_matrix(live.predictor, "instances", data[0])
        if x is not None:
            return x
    table = live.predictor.tables.of_instances(data, f"{at}/data", columns)
    return encode_table(live.predictor, table, f"{at}/data")


def _are_names(columns: list[Any]) -> bool:
    return all(isinstance(name, str) for name in columns) and len(set(columns)) == len(columns)


def _records(live: LoadedModel, value: Any, most: int, at: str) -> "Matrix":
    return _listed(live, value, most, at, "rows")


def _any(live: LoadedModel, value: Any, most: int, at: str) -> "Matrix":
    """TensorFlow Serving's ``instances`` and ``inputs``: rows, lists of values, or columns."""
    if isinstance(value, dict):
        columns = {name: _flat(items) for name, items in value.items()}
        table = live.predictor.tables.of_columns(columns, at)
        limit_rows(table.num_rows, most, at)
        return encode_table(live.predictor, table, at)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _listed(live, value, most, at, "rows")
    if isinstance(value, list) and len(live.predictor.row.names) == 1:
        value = [item if isinstance(item, list) else [item] for item in value]
    return _listed(live, value, most, at, "instances")


def _flat(items: Any) -> Any:
    """A column as ``[N]``, also where it came as ``[N, 1]``."""
    if isinstance(items, list) and all(isinstance(i, list) and len(i) == 1 for i in items):
        return [item[0] for item in items]
    return items


def _listed(live: LoadedModel, value: Any, most: int, at: str, key: str) -> "Matrix":
    if not isinstance(value, list):
        raise InvalidRequest.at(at, "this wants a list")
    if not value:
        raise no_rows(at)
    return matrix_of(live.predictor, key, value, most, at)


_READERS: dict[str, Callable[[LoadedModel, Any, int, str], "Matrix"]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _any,
    "inputs": _any,
}
