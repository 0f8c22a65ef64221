"""``POST /invocations``: MLflow's scoring protocol for the model in ``FITSERVE_DEFAULT_MODEL``.

As MLflow's documentation of its "local inference server" has it: ``dataframe_split``,
``dataframe_records``, ``instances``, ``inputs`` or CSV in, ``{"predictions": [...]}`` out.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.api.bodies import dump
from app.api.serving.engine import Engine, named
from app.api.serving.wire import Answer, Call
from app.api.uploads import FORMATS
from app.errors import InvalidRequest, NotFound, UnsupportedMediaType
from app.services.bulk import JSON
from app.services.predictions import Live, encoded, matrix, refuse_many

if TYPE_CHECKING:
    from app.ml.features import Matrix

_SHAPES = ("dataframe_split", "dataframe_records", "instances", "inputs")


def default_model(ref: str | None) -> str:
    """The reference in ``FITSERVE_DEFAULT_MODEL``. Raises NotFound where there is none."""
    if ref is None:
        raise NotFound(
            "no model answers here; start the server with FITSERVE_DEFAULT_MODEL=name, or ask "
            "/v1/models/{name}/predict"
        )
    return ref


async def invocations(engine: Engine, call: Call) -> Answer:
    """Predictions of the default model."""
    call.query()
    live = await engine.live(default_model(engine.settings.default_model))
    if call.media in FORMATS and FORMATS[call.media] == "csv":
        return await engine.of_file(call, live, JSON, probabilities=False)
    if not call.is_json:
        raise UnsupportedMediaType(
            f"cannot read '{call.media[:64]}'; send application/json or text/csv"
        )
    most = engine.settings.max_predict_rows
    outputs = await engine.of_json(call, live, lambda live, body: _read(live, body, most))
    return Answer(dump({"predictions": live.predictor.predictions(outputs)}), JSON, named(live))


def _read(live: Live, body: Any, most: int) -> "Matrix":
    if not isinstance(body, dict):
        raise InvalidRequest.at("", f"send an object with one of {', '.join(_SHAPES)}")
    given = [key for key in body if key != "params"]
    if body.get("params"):
        raise InvalidRequest.at("/params", "this model has no parameters; leave 'params' out")
    if len(given) != 1 or given[0] not in _SHAPES:
        raise InvalidRequest.at("", f"send exactly one of {', '.join(_SHAPES)}")
    (key,) = given
    return _READERS[key](live, body[key], most, f"/{key}")


def _split(live: Live, value: Any, most: int, at: str) -> "Matrix":
    """``{"columns": [...], "data": [[...]]}``; the index says nothing."""
    parts = value if isinstance(value, dict) else {}
    columns, data = parts.get("columns"), parts.get("data")
    if not isinstance(columns, list) or not isinstance(data, list) or not _are_names(columns):
        raise InvalidRequest.at(at, 'this wants {"columns": ["x"], "data": [[0.5]]}')
    refuse_many(len(data), most, f"{at}/data")
    if len(data) == 1 and isinstance(data[0], list) and columns == live.predictor.row.names:
        x = live.predictor.row.of_values(data[0])
        if x is not None:
            return x
    table = live.predictor.tables.of_instances(data, f"{at}/data", columns)
    return encoded(live.predictor, table, f"{at}/data")


def _are_names(columns: list[Any]) -> bool:
    return all(isinstance(name, str) for name in columns) and len(set(columns)) == len(columns)


def _records(live: Live, value: Any, most: int, at: str) -> "Matrix":
    return _listed(live, value, most, at, "rows")


def _any(live: Live, value: Any, most: int, at: str) -> "Matrix":
    """TensorFlow Serving's ``instances`` and ``inputs``: rows, lists of values, or columns."""
    if isinstance(value, dict):
        columns = {name: _flat(items) for name, items in value.items()}
        table = live.predictor.tables.of_columns(columns, at)
        refuse_many(table.num_rows, most, at)
        return encoded(live.predictor, table, at)
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


def _listed(live: Live, value: Any, most: int, at: str, key: str) -> "Matrix":
    if not isinstance(value, list):
        raise InvalidRequest.at(at, "this wants a list")
    if not value:
        raise InvalidRequest.at(at, "there are no rows to predict; send at least one")
    return matrix(live.predictor, key, value, most, at)


_READERS: dict[str, Callable[[Live, Any, int, str], "Matrix"]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _any,
    "inputs": _any,
}
