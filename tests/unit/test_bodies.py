"""The one reader of request bodies, against servers that hand it over in any pieces."""

import asyncio
import gzip
import zlib
from collections.abc import Callable

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from app.api.http.bodies import GZIP, GZIP_OR_DEFLATE, UNCOMPRESSED, Codings, limited, read_body
from app.errors import InvalidRequest, TooLarge, UnsupportedMediaType

BODY = bytes(range(256)) * 4


class Pieces:
    """An ASGI server that sends a body in pieces, then says that the client has gone."""

    def __init__(self, body: bytes, size: int, *, cut_off: bool = False) -> None:
        pieces = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
        self._messages: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": cut_off or i < len(pieces) - 1}
            for i, piece in enumerate(pieces)
        ]
        self.sent = 0

    async def receive(self) -> Message:
        self.sent += 1
        if self.sent > len(self._messages):
            return {"type": "http.disconnect"}
        return self._messages[self.sent - 1]


def whole(receive: Receive, limit: int, codings: Codings, **headers: str) -> bytes:
    found = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return asyncio.run(read_body(found, receive, limit, codings))


def streamed(receive: Receive, limit: int, codings: Codings, **headers: str) -> bytes:
    found = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def read() -> bytes:
        request = Request({"type": "http", "headers": found}, receive)
        return b"".join([piece async for piece in limited(request, limit, codings).stream()])

    return asyncio.run(read())


READERS = pytest.mark.parametrize("read", [whole, streamed])
Read = Callable[..., bytes]


@READERS
@pytest.mark.parametrize("size", [1, 100, 1023, 1024, 5000])
def test_a_body_may_come_in_any_pieces(read: Read, size: int) -> None:
    assert read(Pieces(BODY, size).receive, len(BODY), UNCOMPRESSED) == BODY
    assert read(Pieces(b"", size).receive, 0, UNCOMPRESSED) == b""


@READERS
@pytest.mark.parametrize("size", [1, 100, 5000])
def test_reading_ends_where_the_limit_does(read: Read, size: int) -> None:
    server = Pieces(BODY, size)
    with pytest.raises(TooLarge, match="larger than 300 bytes"):
        read(server.receive, 300, UNCOMPRESSED)
    assert server.sent == 300 // size + 1


@READERS
def test_what_declares_itself_too_large_is_not_read(read: Read) -> None:
    server = Pieces(BODY, 100)
    with pytest.raises(TooLarge):
        read(server.receive, 300, UNCOMPRESSED, content_length="301")
    assert server.sent == 0
    # nobody's own count is believed
    assert read(server.receive, len(BODY), UNCOMPRESSED, content_length="3") == BODY


@READERS
@pytest.mark.parametrize(
    ("codings", "refused"),
    [(UNCOMPRESSED, ("gzip", "deflate")), (GZIP, ("deflate", "br")), (GZIP_OR_DEFLATE, ("br",))],
)
def test_a_coding_that_is_not_accepted_is_not_read(
    read: Read, codings: Codings, refused: tuple[str, ...]
) -> None:
    for coding in refused:
        server = Pieces(BODY, 100)
        with pytest.raises(UnsupportedMediaType, match=f"'{coding}'"):
            read(server.receive, 10_000, codings, content_encoding=coding)
        assert server.sent == 0
    for coding in ("", "identity", " Identity "):
        assert read(Pieces(BODY, 100).receive, 10_000, codings, content_encoding=coding) == BODY


@READERS
def test_a_client_that_leaves_is_noticed(read: Read) -> None:
    for size in (100, 5000):
        with pytest.raises(ClientDisconnect):
            read(Pieces(BODY, size, cut_off=True).receive, 10_000, UNCOMPRESSED)


def test_the_limit_holds_for_both_forms_of_a_compressed_body() -> None:
    bomb = gzip.compress(bytes(1_000_000))
    for size in (100, 5000):
        assert whole(Pieces(bomb, size).receive, 1_000_000, GZIP, content_encoding="GZIP") == bytes(
            1_000_000
        )
        for limit in (999_999, len(bomb), len(bomb) - 1):
            with pytest.raises(TooLarge):
                whole(Pieces(bomb, size).receive, limit, GZIP, content_encoding="gzip")


def test_deflate_comes_with_and_without_a_header() -> None:
    bare = zlib.compressobj(wbits=-15)
    for body in (zlib.compress(BODY), bare.compress(BODY) + bare.flush()):
        found = whole(Pieces(body, 50).receive, 10_000, GZIP_OR_DEFLATE, content_encoding="deflate")
        assert found == BODY


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body[:-1], "cut off"),
        (lambda body: body + b"x", "follows"),
        (lambda body: b"x" + body, "damaged"),
    ],
)
def test_a_damaged_compressed_body_is_refused(change: Callable[[bytes], bytes], said: str) -> None:
    body = change(gzip.compress(BODY))
    with pytest.raises(InvalidRequest, match=said):
        whole(Pieces(body, 50).receive, 10_000, GZIP, content_encoding="gzip")


def test_a_streamed_body_is_not_decompressed() -> None:
    body = gzip.compress(BODY)
    assert streamed(Pieces(body, 50).receive, 10_000, GZIP, content_encoding="gzip") == body
