"""Plots as answers: drawn once, kept while there is room, and not sent to who has them."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version

from anyio import to_thread
from fastapi import Request, Response

from app import __version__
from app.api.downloads import IMAGE_TYPES, ImageFormat, content_response
from app.api.http.conditions import has_already
from app.api.http.lanes import Lane
from app.api.http.shared import Shared
from app.executors.plotters import Plotters
from app.ml.drawing import Picture

_CACHE_BYTES = 16 * 1024 * 1024
"""Of drawn plots; the one that nobody has asked for longest goes first."""


class Pictures:
    """All plots of this process; used in the event loop."""

    def __init__(self, plotters: Plotters, lane: Lane) -> None:
        self._plotters, self._lane = plotters, lane
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._drawing = Shared[bytes]()
        self._versions = f"{__version__} {version('matplotlib')}"

    async def response(
        self,
        request: Request,
        held: AsyncExitStack,
        image: ImageFormat,
        find: Callable[[], Picture],
    ) -> Response:
        """Return the plot that ``find`` finds, open until ``held`` is not; 304 where the client has
        it already.

        Raises what ``find`` and gathering raise, Unavailable or TooManyRequests.
        """
        picture = await to_thread.run_sync(find)
        named = f"{self._versions} {image} {picture.identity}".encode()
        tag = f'"{hashlib.sha256(named).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if has_already(request, tag):
            return Response(status_code=304, headers=headers)
        content = await self._image(tag, picture, image)
        return content_response(held, content, IMAGE_TYPES[image], headers)

    async def _image(self, tag: str, picture: Picture, image: ImageFormat) -> bytes:
        if tag in self._cache:
            self._cache.move_to_end(tag)
            return self._cache[tag]
        return await self._drawing.get(tag, lambda: self._draw(tag, picture, image))

    async def _draw(self, tag: str, picture: Picture, image: ImageFormat) -> bytes:
        with self._lane.place():
            content = await self._lane.run(lambda: self._plotters.draw(picture.gather(), image))
        self._keep(tag, content)
        return content

    def _keep(self, tag: str, content: bytes) -> None:
        self._cache[tag] = content
        self._cached_bytes += len(content)
        while self._cached_bytes > _CACHE_BYTES:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= len(oldest)
