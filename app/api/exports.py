"""Answers that are made first: tables as CSV or Arrow (or their own Parquet file), models as ONNX.

A table is sent as it is written, and so has no length. Who asks for that (HEAD) or for a part
(Range), as polars and download managers do before they begin, gets a file that is made once and
kept for a minute after its last use: such clients come again and again. A model is always such a
file. It has no name, so it goes with the process, however that ends.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from app.api.downloads import OCTETS, Download, opened, path_of
from app.api.http.conditions import has_already
from app.api.http.lanes import Lane, Lanes
from app.api.http.methods import is_head
from app.api.http.shared import Shared
from app.db.models import Dataset, ModelVersion
from app.ml.tables import content
from app.runtime.artifacts import unless_deleted
from app.runtime.context import Context
from app.services.models import onnx
from app.services.models.onnx import Exportable
from app.storage import explain_os_errors

_KEPT_SECONDS = 60.0
"""How long a file waits for its next reader."""
_MOST_KEPT = 8
"""Files that nobody is reading."""
_MOST_KEPT_BYTES = 1024 * 1024 * 1024
"""Of files that nobody is reading, but for the newest."""


_Write = Callable[[IO[bytes]], None]


@dataclass
class _Export:
    """A file on the data disk."""

    file: IO[bytes]
    size: int = 0
    readers: int = 0
    rests_since: float = 0.0

    @property
    def path(self) -> Path:
        """Where it can be opened while it is not closed."""
        return path_of(self.file)


class Exports:
    """All tables and models that this process has written to files; used in the event loop."""

    def __init__(self, context: Context, lanes: Lanes) -> None:
        self._context, self._lanes = context, lanes
        self._made: dict[str, _Export] = {}
        self._making = Shared[_Export]()

    async def response(
        self,
        request: Request,
        held: AsyncExitStack,
        find: Callable[[], tuple[Dataset, Path]],
        media: str,
    ) -> Response:
        """Return the dataset that ``find`` gives, with its Parquet file, as ``media``, or 304;
        ``held`` is closed when it has been sent.

        Raises what ``find`` raises, ArtifactCorrupt, StorageFull or TooManyRequests.
        """
        as_file = media == content.PARQUET or is_head(request) or "range" in request.headers
        lane = self._lanes.downloads if as_file else self._lanes.exports
        held.enter_context(lane.place())  # first: a crowd is not to cost a look each
        dataset, path = await lane.run(find)
        name = f"{dataset.name or dataset.id}.{content.MEDIA[media]}"
        etag = f'"{dataset.sha256}-{content.MEDIA[media]}"'
        headers = {"ETag": etag, "Vary": "Accept"}
        if has_already(request, etag):
            return Response(status_code=304, headers=headers)
        if not as_file and etag not in self._made:
            pieces = await lane.run(partial(self._pieces, dataset, path, media))
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
            headers["Accept-Ranges"] = "bytes"
            return StreamingResponse(lane.each(pieces), media_type=media, headers=headers)
        if media != content.PARQUET:
            write = partial(self._write, dataset, path, media)
            path = await held.enter_async_context(self._file(self._lanes.exports, etag, write))
        else:
            path = await lane.run(partial(self._opened, dataset, path, held))
        return Download(
            path, media_type=media, filename=name, headers=headers, stat_result=path.stat()
        )

    def _write(self, dataset: Dataset, path: Path, media: str, file: IO[bytes]) -> None:
        for piece in self._pieces(dataset, path, media):
            self._context.require_room()
            file.write(piece)

    async def onnx(
        self, request: Request, held: AsyncExitStack, find: Callable[[], ModelVersion]
    ) -> Response:
        """Return the version that ``find`` gives as an ONNX file, or 304; ``held`` is closed when
        it has been sent.

        Raises what ``find`` raises, NotApplicable, ArtifactCorrupt, StorageFull, Unavailable or
        TooManyRequests.
        """
        lane = self._lanes.downloads
        held.enter_context(lane.place())
        row = await lane.run(find)
        found = await lane.run(partial(onnx.of_version, self._context, row))
        etag = f'"{found.digest}"'
        headers = {"ETag": etag}
        if has_already(request, etag):
            return Response(status_code=304, headers=headers)
        write = partial(self._write_model, row, found)
        path = await held.enter_async_context(self._file(self._lanes.onnx, etag, write))
        name = f"{row.name}-{row.version}.onnx"
        return Download(
            path, media_type=OCTETS, filename=name, headers=headers, stat_result=path.stat()
        )

    def _write_model(self, row: ModelVersion, found: Exportable, file: IO[bytes]) -> None:
        self._context.require_room()
        with unless_deleted(self._context, "models", row.id):
            file.write(found.content())

    def _pieces(self, dataset: Dataset, path: Path, media: str) -> Iterator[bytes]:
        with unless_deleted(self._context, "datasets", dataset.id):
            return content.stream(path, media)

    def _opened(self, dataset: Dataset, path: Path, held: AsyncExitStack) -> Path:
        with unless_deleted(self._context, "datasets", dataset.id):
            return opened(path, held)

    # ------------------------------------------------------------ files

    @asynccontextmanager
    async def _file(self, lane: Lane, etag: str, write: _Write) -> AsyncIterator[Path]:
        """Give what ``write`` writes as a file, which is there until the block ends and a while
        longer; ``lane`` is where it is made."""
        export = self._made.get(etag) or await self._making.get(
            etag, lambda: self._make(lane, etag, write)
        )
        export.readers += 1
        try:
            yield export.path
        finally:
            export.readers -= 1
            loop = asyncio.get_running_loop()
            export.rests_since = loop.time()
            loop.call_later(_KEPT_SECONDS, self._forget_resting)

    async def _make(self, lane: Lane, etag: str, write: _Write) -> _Export:
        with lane.place():
            export = await lane.run(partial(self._written, write))
        export.rests_since = asyncio.get_running_loop().time()
        self._made[etag] = export
        self._forget_resting()
        return export

    def _written(self, write: _Write) -> _Export:
        with explain_os_errors(), ExitStack() as stack:
            file = stack.enter_context(TemporaryFile(dir=self._context.storage.scratch))
            write(file)
            file.flush()
            stack.pop_all()  # it stays open
            return _Export(file, size=file.tell())

    def _forget_resting(self) -> None:
        """Close the files that nobody has read for so long, and the oldest of too many."""
        now = asyncio.get_running_loop().time()
        resting = [item for item in self._made.items() if not item[1].readers]
        resting.sort(key=lambda item: item[1].rests_since, reverse=True)
        kept_bytes = 0
        for place, (etag, export) in enumerate(resting):
            kept_bytes += export.size
            too_many = place and (place >= _MOST_KEPT or kept_bytes > _MOST_KEPT_BYTES)
            if too_many or now - export.rests_since >= _KEPT_SECONDS:
                self._made.pop(etag).file.close()
