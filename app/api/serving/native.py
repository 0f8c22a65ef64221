"""``POST /v1/models/{ref}/predict``: JSON or a file in; JSON, CSV or Arrow out."""

from typing import TYPE_CHECKING, Any

from app.api.http.bodies import parse_fast
from app.api.http.media_types import negotiate
from app.api.http.responses import dump_json
from app.api.serving.asgi_io import ASGIRequest, ASGIResponse
from app.api.serving.engine import AT_ONCE, READING, Engine, boolean, named
from app.api.uploads import FORMATS
from app.errors import UnsupportedMediaType
from app.services.predictions.files import ARROW, CSV, JSON, Media, Wanted
from app.services.predictions.requests import layout_of, matrix_of
from app.services.predictions.resolver import LoadedModel

if TYPE_CHECKING:
    from app.ml.features.encoder import Matrix


async def predict(engine: Engine, request: ASGIRequest, ref: str) -> ASGIResponse:
    """Predictions of one version for all rows of a request."""
    live = await engine.live(ref)
    media: Media = JSON
    accept = request.header(b"accept")
    if accept and accept not in ("*/*", JSON):
        media = negotiate(accept, JSON, CSV, ARROW)  # type: ignore[assignment]
    if not request.is_json and request.media_type not in FORMATS:
        raise UnsupportedMediaType(
            f"cannot read '{request.media_type[:64]}'; send application/json, text/csv, "
            "application/x-ndjson, application/vnd.apache.parquet or "
            "application/vnd.apache.arrow.stream"
        )
    given = request.query("probabilities", *(() if request.is_json else READING))
    probabilities = boolean(given.get("probabilities"), "probabilities")
    if not request.is_json:
        return await engine.of_file(request, live, given, Wanted(media, probabilities))
    body = await request.body(engine.settings.max_json_bytes)
    max_rows = engine.settings.max_predict_rows

    def read() -> "Matrix":
        return matrix_of(live.predictor, *layout_of(parse_fast(body)), max_rows)

    outputs = await engine.outputs(live, body, read)
    if media != JSON or len(outputs) > AT_ONCE:
        return await engine.answer(live, outputs, Wanted(media, probabilities))
    return ASGIResponse(_told(live, outputs, probabilities), JSON, named(live))


def _told(live: LoadedModel, outputs: "Matrix", probabilities: bool) -> bytes:
    body: dict[str, Any] = {
        "object": "predictions",
        "model": live.name,
        "version": live.version,
        "predictions": live.predictor.predictions(outputs),
    }
    if probabilities:
        body["probabilities"] = live.predictor.probabilities(outputs)
    return dump_json(body)
