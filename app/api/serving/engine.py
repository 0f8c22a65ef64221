"""What the dialects share: the model that a reference means, its outputs, and their forms.

Small work on a quick model is done on the event loop: changing threads costs more than it does. All
else goes to threads, and there into passes that several requests share.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from anyio import CapacityLimiter, to_thread
from pydantic import TypeAdapter, ValidationError

from app.api.schemas.uploads import FileOptions
from app.api.serving.asgi_io import ASGIRequest, ASGIResponse
from app.api.uploads import Uploads
from app.errors import InvalidRequest
from app.ml.specs.mistakes import checked
from app.runtime.context import Context
from app.services.predictions import files
from app.services.predictions.batching import Batches
from app.services.predictions.files import OutputFormat
from app.services.predictions.resolver import LoadedModel, ModelResolver

if TYPE_CHECKING:
    from app.ml.column_types.fitted import Matrix
    from app.ml.features.feature_tables import FeatureTables

_T = TypeVar("_T")

INLINE_ROWS = 2_000
"""Rows whose predictions are serialized on the event loop."""
FILE_OPTIONS = tuple(FileOptions.model_fields)
"""Query parameters that say how to read a file."""
_INLINE_BODY_BYTES = 16 * 1024
"""Bodies that are parsed and encoded on the event loop, for a quick model."""
_INLINE_FORWARD_ROWS = 64
"""Rows that such a model predicts on the event loop."""
_BOOLEAN = TypeAdapter(bool)


class Engine:
    """Predicts for all dialects; used in the event loop."""

    def __init__(self, context: Context, models: ModelResolver, uploads: Uploads) -> None:
        self.context = context
        self.settings = context.settings
        self._models, self._uploads = models, uploads
        self._batches = Batches(self.settings.max_batch_size, self.settings.max_delay_ms / 1000)
        self._threads = CapacityLimiter(len(os.sched_getaffinity(0)) + 1)

    async def model(self, ref: str) -> LoadedModel:
        """Return the model that ``ref`` means. Raises NotFound or ArtifactCorrupt."""
        model = self._models.cached(ref)
        if model is None:
            model = await to_thread.run_sync(self._models.get, ref)
        return model

    async def outputs(
        self, model: LoadedModel, body: bytes, read: "Callable[[], Matrix]"
    ) -> "Matrix":
        """Return the model's outputs, ``(rows, outputs)``, for the ``(rows, inputs)`` that ``read``
        makes of ``body``; raises what ``read`` raises."""
        if len(body) > _INLINE_BODY_BYTES or not model.predictor.is_quick:
            x = await self.in_thread(read)
        else:
            x = read()
            if len(x) <= _INLINE_FORWARD_ROWS:
                return model.predictor.forward(x)
        return await self._batches.outputs(model.predictor, x)

    async def predict_file(
        self,
        request: ASGIRequest,
        model: LoadedModel,
        query: Mapping[str, str],
        output_format: OutputFormat,
        tables: "FeatureTables | None" = None,
    ) -> ASGIResponse:
        """Return predictions for a body that is a file; ``query`` may have ``FILE_OPTIONS``, and
        ``tables`` takes its columns, by default that of the model.

        Raises InvalidInput of any kind.
        """
        said = checked(FileOptions, {name: value for name, value in query.items() if value})
        async with self._uploads.of_model(request.starlette(), said) as (path, plain):
            options = files.as_trained(plain, model.predictor.card, said.on_error)
            predictions = await self.in_thread(
                partial(
                    files.predict_file,
                    self.context,
                    model,
                    path,
                    options,
                    output_format,
                    tables or model.predictor.tables,
                )
            )
        return ASGIResponse(predictions, output_format.media_type, version_header(model))

    async def serialized(self, rows: int, serialize: Callable[[], _T]) -> _T:
        """Return ``serialize()`` of the predictions for so many rows, without holding up other
        requests."""
        return serialize() if rows <= INLINE_ROWS else await self.in_thread(serialize)

    async def formatted(
        self, model: LoadedModel, outputs: "Matrix", output_format: OutputFormat
    ) -> ASGIResponse:
        """Return the predictions of ``(rows, outputs)`` in any format. Raises InvalidRequest."""
        predictions = await self.in_thread(
            partial(files.write_predictions, self.context, model, iter([outputs]), output_format)
        )
        return ASGIResponse(predictions, output_format.media_type, version_header(model))

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Return ``work()``, done in one of a few threads: it would hold up the event loop."""
        return await to_thread.run_sync(work, limiter=self._threads)


def version_header(model: LoadedModel) -> dict[str, str]:
    """Return the header that says which version predicted, for formats without a place for it."""
    return {"Model-Version": model.ref}


def parse_flag(value: str | None, name: str) -> bool:
    """Return a query parameter as pydantic reads booleans; false where it is empty.

    Raises InvalidRequest.
    """
    if not value:
        return False
    try:
        return _BOOLEAN.validate_python(value)
    except ValidationError as error:
        raise InvalidRequest.at(f"/{name}", f"'{name}' should be true or false") from error


def parse_level(value: str | None) -> float | None:
    """Return the level of intervals; ``None`` where there is none. Raises InvalidRequest."""
    if value is None:
        return None
    try:
        level = float(value)
    except ValueError:
        level = 0.0
    if not 0 < level < 1:
        raise InvalidRequest.at(
            "/interval", f"'interval' is a level between 0 and 1 such as 0.9, not '{value[:64]}'"
        )
    return level


def parse_count(value: str | None, name: str) -> int | None:
    """Return a whole number from 1; ``None`` where there is none. Raises InvalidRequest."""
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and 0 < len(value) < 9 and int(value)):
        raise InvalidRequest.at(
            f"/{name}", f"'{name}' is a whole number from 1 such as 5, not '{value[:64]}'"
        )
    return int(value)
