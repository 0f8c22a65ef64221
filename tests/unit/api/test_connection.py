"""Connections that are too slow or say too much, on real sockets and a clock that jumps."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from app.api.http import connection, problems
from app.api.http.connection import Connection, close_slow
from app.api.http.observe import Observe
from app.errors import FitserveError

KEEP_ALIVE = 75


class _Counts:
    """Stands in for what ``/metrics`` shows, which wants a database."""

    def observe(self, *_: object) -> None:
        """Count nothing."""


class House:
    """A server in this loop, whose application counts the bytes of a body, or waits."""

    def __init__(self) -> None:
        self.server = uvicorn.Server(
            uvicorn.Config(
                Observe(self.app, _Counts()),  # type: ignore[arg-type]
                http=Connection,
                interface="asgi3",
                port=0,
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE,
            )
        )
        self.go_on = asyncio.Event()
        self.ended: list[int] = []
        self.clients: list[asyncio.StreamWriter] = []

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        count, more = 0, True
        if scope["path"] == "/wait":
            await self.go_on.wait()
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                count += len(message["body"])
                more = message["more_body"]
        except FitserveError as error:
            await problems.from_error(error)(scope, receive, send)
            return
        finally:
            self.ended.append(count)
        body = str(count).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def connections(self) -> list[Any]:
        return list(self.server.server_state.connections)

    def later(self, seconds: float) -> None:
        """Look at all connections as if it were so much later, second by second."""
        now = asyncio.get_running_loop().time()
        for second in range(1, int(seconds) + 1):
            close_slow(self.server.server_state.connections, now + second)

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self.server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self.clients.append(writer)
        writer.write(sent)
        await writer.drain()
        await asyncio.sleep(0.05)
        return reader, writer


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[House]:
    made = House()
    task = asyncio.create_task(made.server._serve())
    while not made.server.started:
        await asyncio.sleep(0.01)
    try:
        yield made
    finally:
        made.go_on.set()
        for client in made.clients:
            client.close()
        made.server.should_exit = made.server.force_exit = True
        await task


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Return status and problem of an answer after which the connection ends."""
    text = await asyncio.wait_for(reader.read(), 10)
    head, _, body = text.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, text
    assert b"x-request-id: " in head.lower()
    assert b"connection: close" in head.lower()
    problem = json.loads(body)
    status = int(head.split()[1])
    assert problem["status"] == status
    return status, problem


GET = b"GET / HTTP/1.1\r\nhost: x\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /?" + b"q" * 17 * 1024 + b" HTTP/1.1\r\n\r\n", 414, "too_large"),
        (GET + b"a: " + b"v" * 33 * 1024 + b"\r\n\r\n", 431, "too_large"),
        (GET + b"a: " + b"v" * 20 * 1024 + b"\r\nb: " + b"v" * 20 * 1024 + b"\r\n\r\n", 431, None),
        (GET + b"".join(b"a%d: v\r\n" % i for i in range(5000)) + b"\r\n", 431, "too_large"),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", 400, "invalid_request"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 400, "invalid_request"),
    ],
    ids=["line", "one header", "two headers", "many headers", "not HTTP", "TLS"],
)
def test_a_head_that_is_refused(sent: bytes, status: int, code: str | None) -> None:
    async def run() -> None:
        async with house() as server:
            reader, _ = await server.connect(sent)
            found, problem = await answer(reader)
            assert found == status
            assert problem["code"] == (code or problem["code"])
            assert not server.ended

    uvloop.run(run())


@pytest.mark.parametrize("begins", [b"GET /?", GET + b"a: "], ids=["line", "header"])
def test_what_does_not_end_is_refused_before_it_is_kept(begins: bytes) -> None:
    async def run() -> None:
        async with house() as server:
            reader, writer = await server.connect(begins)
            with contextlib.suppress(ConnectionError):
                for _ in range(40):
                    writer.write(b"v" * 1024 * 1024)
                    await writer.drain()
            assert all(len(c.url) < 1024 * 1024 for c in server.connections())
            status, _ = await answer(reader)
            assert status == (414 if begins == b"GET /?" else 431)

    uvloop.run(run())


def test_a_head_just_within_the_bounds_is_read() -> None:
    async def run() -> None:
        async with house() as server:
            line = b"GET /" + b"q" * (connection.LONGEST_LINE - 40) + b" HTTP/1.1\r\nhost: x\r\n"
            reader, writer = await server.connect(line)
            for _ in range(3):
                writer.write(b"a: " + b"v" * 10_000 + b"\r\n")
                await asyncio.sleep(0.01)
            writer.write(b"\r\n")
            assert b"200 OK" in await reader.readline()

    uvloop.run(run())


def test_trailers_are_bounded() -> None:
    async def run() -> None:
        async with house() as server:
            chunked = (
                b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
            )
            reader, writer = await server.connect(chunked)
            writer.write(b"t: " + b"v" * 60_000)
            assert (await answer(reader))[0] == 431

    uvloop.run(run())


async def _drip(server: House, sent: bytes, more: bytes, seconds: int) -> asyncio.StreamReader:
    """Send something, then ``more`` every second of the server's clock."""
    reader, writer = await server.connect(sent)
    (there,) = server.connections()
    now = there.loop.time()
    for second in range(1, seconds + 1):
        if more:
            writer.write(more)
            await asyncio.sleep(0.005)
            there._heard = now + second  # its clock cannot jump with ours
        close_slow([there], now + second)
    return reader


@pytest.mark.parametrize(
    ("sent", "more", "seconds"),
    [
        (GET, b"", 16),
        (b"G", b"", 16),
        (GET + b"a: ", b"v", 61),
        (POST, b"", 16),
        (POST, b"b" * 100, 31),
    ],
    ids=["head rests", "line rests", "head drips", "body rests", "body drips"],
)
def test_who_is_too_slow_is_told_so(sent: bytes, more: bytes, seconds: int) -> None:
    async def run() -> None:
        async with house() as server:
            reader = await _drip(server, sent, more, seconds)
            status, problem = await answer(reader)
            assert (status, problem["code"]) == (408, "timeout")
            assert len(server.ended) == (sent == POST)  # and what the request held is free

    uvloop.run(run())


@pytest.mark.parametrize("sent", [b"", b"\r\n", GET + b"\r\n"], ids=["new", "line ends", "used"])
def test_an_idle_connection_is_closed_after_its_time(sent: bytes) -> None:
    async def run() -> None:
        async with house() as server:
            reader, _ = await server.connect(sent)
            server.later(KEEP_ALIVE - 1)
            await asyncio.sleep(0.05)
            assert not reader.at_eof()
            server.later(KEEP_ALIVE + 1)
            assert (await asyncio.wait_for(reader.read(), 10)).count(b"200 OK") == (
                sent[:3] == b"GET"
            )

    uvloop.run(run())


def test_waits_for_us_are_nobodys_rest() -> None:
    """An answer that takes long, a body that we do not read, and what comes behind either."""

    async def run() -> None:
        async with house() as server:
            waiting, _ = await server.connect(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n" + GET)
            unread, writer = await server.connect(
                b"POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n" + b"b" * 150_000
            )
            continued, more = await server.connect(
                b"POST /wait HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
                b"content-length: 3\r\n\r\n"
            )
            server.later(300)
            server.go_on.set()
            assert b"200 OK" in await waiting.readline()
            writer.write(b"b" * 50_000)
            assert b"200 OK" in await unread.readline()
            assert b"100 Continue" in await continued.readline()
            more.write(b"abc")
            assert (await continued.readuntil(b"\r\n\r\n")).count(b"200 OK") == 1

    uvloop.run(run())
