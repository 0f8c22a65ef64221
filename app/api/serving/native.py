"""``POST /v1/models/{ref}/predict``: JSON or a file in; JSON, CSV or Arrow out."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.api.http.media_types import chosen
from app.api.http.responses import dump_json
from app.api.serving.asgi_io import ASGIRequest, ASGIResponse
from app.api.serving.engine import (
    FILE_OPTIONS,
    INLINE_ROWS,
    Engine,
    parse_count,
    parse_flag,
    parse_level,
    version_header,
)
from app.api.uploads import FORMATS
from app.errors import InvalidRequest, TooLarge, UnsupportedMediaType
from app.services.predictions.files import ARROW, CSV, JSON, OutputFormat, OutputType
from app.services.predictions.requests import layout_of, matrix_of
from app.services.predictions.resolver import LoadedModel
from app.strict_json import parse_fast

if TYPE_CHECKING:
    from app.ml.column_types.fitted import Matrix


_MOST_EXPLAINED = 1_000
"""Rows of a request whose predictions are explained."""
_INLINE_BYTES = 1024 * 1024
"""Of an answer that is made on the event loop."""
_FORMATS: dict[OutputType, str] = {JSON: "json", CSV: "csv", ARROW: "arrow"}


async def predict(engine: Engine, request: ASGIRequest, ref: str) -> ASGIResponse:
    """Return the predictions of the model ``ref`` for all rows of a request.

    Raises NotFound, ArtifactCorrupt, NotAcceptable, or InvalidInput of any kind.
    """
    model = await engine.model(ref)
    if not request.is_json and request.media_type not in FORMATS:
        raise UnsupportedMediaType(
            f"cannot read '{request.media_type[:64]}'; send application/json, text/csv, "
            "application/x-ndjson, application/vnd.apache.parquet or "
            "application/vnd.apache.arrow.stream"
        )
    options = () if request.is_json else FILE_OPTIONS
    query = request.query("probabilities", "interval", "explain", "format", *options)
    output_type: OutputType = JSON
    accept = request.header(b"accept")
    if "format" in query or (accept and accept not in ("*/*", JSON)):
        output_type = chosen(accept, query.get("format"), _FORMATS)
    probabilities = parse_flag(query.get("probabilities"), "probabilities")
    level = parse_level(query.get("interval"))
    output_format = OutputFormat(output_type, probabilities, level)
    most = parse_count(query.get("explain"), "explain")
    if most is not None and (output_type != JSON or not request.is_json):
        raise InvalidRequest.at("/explain", "explanations are of JSON, in JSON; leave it out")
    if not request.is_json:
        file_options = {name: query[name] for name in FILE_OPTIONS if name in query}
        return await engine.predict_file(request, model, file_options, output_format)
    body = await request.body(engine.settings.max_json_bytes)
    max_rows = engine.settings.max_predict_rows

    def read() -> "Matrix":
        layout, value, pointer = layout_of(parse_fast(body))
        return matrix_of(model.predictor, layout, value, max_rows, pointer)

    if most is not None:
        return await _explained(engine, model, read, output_format, most)
    outputs = await engine.outputs(model, body, read)
    size = len(outputs) * output_format.row_bytes(model)
    if output_type != JSON or len(outputs) > INLINE_ROWS or size > _INLINE_BYTES:
        return await engine.formatted(model, outputs, output_format)
    return ASGIResponse(_json(model, outputs, output_format), JSON, version_header(model))


async def _explained(
    engine: Engine,
    model: LoadedModel,
    read: "Callable[[], Matrix]",
    output_format: OutputFormat,
    most: int,
) -> ASGIResponse:
    """Return predictions with what features add to them. Raises TooLarge for many rows."""

    def work() -> bytes:
        x = read()
        if len(x) > _MOST_EXPLAINED:
            raise TooLarge(
                f"{len(x):,} rows are more than the {_MOST_EXPLAINED:,} that are explained"
            )
        outputs = model.predictor.forward(x)
        explanations = model.predictor.explain(x, outputs, most)
        return _json(model, outputs, output_format, explanations=explanations)

    return ASGIResponse(await engine.in_thread(work), JSON, version_header(model))


def _json(model: LoadedModel, outputs: "Matrix", output_format: OutputFormat, **more: Any) -> bytes:
    body: dict[str, Any] = {
        "object": "predictions",
        "model": model.name,
        "version": model.version,
        "predictions": model.predictor.predictions(outputs),
    }
    if output_format.probabilities or output_format.level is not None:
        beside = model.predictor.beside(output_format.probabilities, output_format.level)
        body |= {name: of_rows(outputs) for name, of_rows in beside.items()}
    return dump_json(body | more)
