"""What the dialects share: the model that a reference means, and its outputs for what was asked.

Small work on a quick model is done on the event loop: changing threads costs more than it does. All
else goes to threads, and there into passes that several requests share.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from anyio import CapacityLimiter, to_thread
from pydantic import TypeAdapter, ValidationError

from app.api.http.media_types import charset
from app.api.serving.asgi_io import ASGIRequest, ASGIResponse
from app.api.uploads import FORMATS, Uploads
from app.errors import InvalidRequest
from app.ml.tables.ingest import Options
from app.runtime.context import Context
from app.services.predictions import files
from app.services.predictions.batching import Batches
from app.services.predictions.files import Wanted
from app.services.predictions.resolver import LoadedModel, ModelResolver

if TYPE_CHECKING:
    from app.ml.features.encoder import Matrix

_T = TypeVar("_T")

_BOOLEAN = TypeAdapter(bool)
_SMALL_BYTES = 16 * 1024
_SMALL_ROWS = 64
AT_ONCE = 2_000
"""Rows whose answer is written on the event loop."""
READING = ("delimiter", "encoding")
"""What a query may say of a file."""


class Engine:
    """One for all dialects."""

    def __init__(self, context: Context, models: ModelResolver, uploads: Uploads) -> None:
        self.context = context
        self.settings = context.settings
        self._models, self._uploads = models, uploads
        self._batches = Batches(self.settings.max_batch_size, self.settings.max_delay_ms / 1000)
        self._threads = CapacityLimiter(len(os.sched_getaffinity(0)) + 1)

    async def live(self, ref: str) -> LoadedModel:
        """Raises NotFound or ArtifactCorrupt."""
        live = self._models.cached(ref)
        if live is None:
            live = await to_thread.run_sync(self._models.get, ref)
        return live

    async def outputs(
        self, live: LoadedModel, body: bytes, read: "Callable[[], Matrix]"
    ) -> "Matrix":
        """The model's outputs for what ``read`` makes of ``body``; raises what ``read`` raises."""
        if len(body) > _SMALL_BYTES or not live.predictor.is_quick:
            x = await self.in_thread(read)
        else:
            x = read()
            if len(x) <= _SMALL_ROWS:
                return live.predictor.forward(x)
        return await self._batches.outputs(live.predictor, x)

    async def of_file(
        self, request: ASGIRequest, live: LoadedModel, given: Mapping[str, str], wanted: Wanted
    ) -> ASGIResponse:
        """Predictions for a body that is a file; ``given`` may have what ``READING`` names.

        Raises InvalidInput of any kind.
        """
        kind = FORMATS[request.media_type]
        tabbed = request.media_type == "text/tab-separated-values"
        upload = request.starlette()
        options = Options(
            format=kind,
            delimiter="\t" if tabbed else given.get("delimiter"),
            encoding=given.get("encoding") or charset(upload),
        )
        async with self._uploads.saved(upload, kind) as path:
            found = await self.in_thread(
                partial(files.predict_file, self.context, live, path, options, wanted)
            )
        return ASGIResponse(found, wanted.media, named(live))

    async def written(self, rows: int, write: Callable[[], _T]) -> _T:
        """What ``write`` makes of the outputs of so many rows, without holding up the others."""
        return write() if rows <= AT_ONCE else await self.in_thread(write)

    async def answer(self, live: LoadedModel, outputs: "Matrix", wanted: Wanted) -> ASGIResponse:
        """Predictions of outputs in any format. Raises InvalidRequest."""
        found = await self.in_thread(partial(files.answer, live, iter([outputs]), wanted))
        return ASGIResponse(found, wanted.media, named(live))

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """One of a few, for what would hold up the event loop."""
        return await to_thread.run_sync(work, limiter=self._threads)


def named(live: LoadedModel) -> dict[str, str]:
    """Which version answered, for formats that have no place for it."""
    return {"Model-Version": live.ref}


def boolean(value: str | None, name: str) -> bool:
    """A flag of the query, as pydantic reads them; false where it is empty. Raises
    InvalidRequest."""
    if not value:
        return False
    try:
        return _BOOLEAN.validate_python(value)
    except ValidationError as error:
        raise InvalidRequest.at(f"/{name}", f"'{name}' should be true or false") from error
