"""What the dialects share: the model that a reference means, and its outputs for what was asked.

Small work on a quick model is done on the event loop: changing threads costs more than it does. All
else goes to threads, and there into passes that several requests share.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from anyio import CapacityLimiter, to_thread

from app.api.serving.wire import Answer, Call, decode
from app.api.uploads import FORMATS, Uploads, charset
from app.errors import InvalidRequest
from app.ml.ingest import Options
from app.services import bulk
from app.services.batching import Batches
from app.services.bulk import Wanted
from app.services.context import Context
from app.services.predictions import Live, LiveModels

if TYPE_CHECKING:
    from app.ml.features import Matrix

Read = Callable[[Live, object], "Matrix"]
"""What a dialect makes of a request's JSON."""

_T = TypeVar("_T")

_SMALL_BYTES = 16 * 1024
_SMALL_ROWS = 64
AT_ONCE = 2_000
"""Rows whose answer is written on the event loop."""
READING = ("delimiter", "encoding")
"""What a query may say of a file."""


class Engine:
    """One for all dialects."""

    def __init__(self, context: Context, models: LiveModels, uploads: Uploads) -> None:
        self.context = context
        self.settings = context.settings
        self._models, self._uploads = models, uploads
        self._batches = Batches(self.settings.max_batch_size, self.settings.max_delay_ms / 1000)
        self._threads = CapacityLimiter(len(os.sched_getaffinity(0)) + 1)

    async def live(self, ref: str) -> Live:
        """Raises NotFound or ArtifactCorrupt."""
        live = self._models.warm(ref)
        if live is None:
            live = await to_thread.run_sync(self._models.get, ref)
        return live

    async def outputs(self, live: Live, body: bytes, read: "Callable[[], Matrix]") -> "Matrix":
        """The model's outputs for what ``read`` makes of ``body``; raises what ``read`` raises."""
        if len(body) > _SMALL_BYTES or not live.predictor.is_quick:
            x = await to_thread.run_sync(read, limiter=self._threads)
        else:
            x = read()
            if len(x) <= _SMALL_ROWS:
                return live.predictor.forward(x)
        return await self._batches.outputs(live.predictor, x)

    async def of_json(self, call: Call, live: Live, read: Read) -> "Matrix":
        """The model's outputs for a JSON body. Raises InvalidInput."""
        body = await call.body(self.settings.max_json_bytes)
        return await self.outputs(live, body, lambda: read(live, decode(body)))

    async def of_file(self, call: Call, live: Live, wanted: Wanted) -> Answer:
        """Predictions for a body that is a file. Raises InvalidInput of any kind."""
        kind = FORMATS[call.media]
        given = call.query("probabilities", *READING)
        delimiter = "\t" if call.media == "text/tab-separated-values" else given.get("delimiter")
        request = call.request
        options = Options(
            format=kind,
            delimiter=delimiter,
            encoding=given.get("encoding") or charset(request),
        )
        async with self._uploads.saved(request, kind) as path:
            found = await to_thread.run_sync(
                bulk.predict_file,
                *(self.context, live, path, options, wanted),
                limiter=self._threads,
            )
        return Answer(found, wanted.media, named(live))

    async def written(self, rows: int, write: Callable[[], _T]) -> _T:
        """What ``write`` makes of the outputs of so many rows, without holding up the others."""
        if rows <= AT_ONCE:
            return write()
        return await to_thread.run_sync(write, limiter=self._threads)

    async def answer(self, live: Live, outputs: "Matrix", wanted: Wanted) -> Answer:
        """Predictions of outputs in any format. Raises InvalidRequest."""
        found = await to_thread.run_sync(
            bulk.answer, live, iter([outputs]), wanted, limiter=self._threads
        )
        return Answer(found, wanted.media, named(live))


def named(live: Live) -> dict[str, str]:
    """Which version answered, for formats that have no place for it."""
    return {"Model-Version": live.ref}


def boolean(value: str | None, name: str) -> bool:
    """A flag of the query, as pydantic reads them. Raises InvalidRequest."""
    match (value or "false").lower():
        case "true" | "1" | "yes" | "on" | "t" | "y":
            return True
        case "false" | "0" | "no" | "off" | "f" | "n":
            return False
    raise InvalidRequest.at(f"/{name}", f"'{name}' should be true or false")
