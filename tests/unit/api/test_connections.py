"""Limits of connections, against a real uvicorn on a socket, its seconds made short."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.api.http import connections
from app.api.http.connections import MAX_HEADER_BYTES, MAX_LINE_BYTES, BoundedProtocol

Ask = Callable[[], socket.socket]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body, says how long it was; ``/wait`` takes a second for its answer."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    if scope["path"] == "/wait":
        await asyncio.sleep(1)
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def connect() -> Iterator[Ask]:
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in (
            ("REST_SECONDS", 0.4),
            ("HEAD_SECONDS", 0.8),
            ("SLOW_BODY_SECONDS", 0.8),
            ("_LOOK_SECONDS", 0.05),
        ):
            patch.setattr(connections, name, seconds)
        options: dict[str, Any] = {"http": BoundedProtocol, "timeout_keep_alive": 0.6}
        config = uvicorn.Config(app, log_config=None, lifespan="off", loop="asyncio", **options)
        server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=[[listener]])
        thread.start()
        port = listener.getsockname()[1]
        yield lambda: socket.create_connection(("127.0.0.1", port), timeout=20)
        server.should_exit = True
        thread.join()


def answered(ask: socket.socket) -> bytes:
    """All that comes until the connection ends."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := ask.recv(65536):
            found += piece
    ask.close()
    return found


def drip(ask: socket.socket, piece: bytes, every: float = 0.05) -> bytes:
    """Send ``piece`` again and again until the other side has had enough."""
    ask.setblocking(False)
    found, deadline = b"", time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            ask.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            break
        with contextlib.suppress(BlockingIOError):
            try:
                if not (more := ask.recv(65536)):
                    break
                found += more
            except ConnectionResetError:
                break
        time.sleep(every)
    ask.close()
    return found


def test_ordinary_requests(connect: Ask) -> None:
    ask = connect()
    for size in (0, 10, 300_000):
        body = b"x" * size
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
        ask.sendall(head + body)
        found = b""
        while not found.endswith(b"\r\n\r\n%d" % size):
            found += ask.recv(65536)
        assert found.startswith(b"HTTP/1.1 200")
    ask.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3 + b"GET /wait HTTP/1.1\r\n\r\n")
    found = b""
    while found.count(b"HTTP/1.1 200") < 4:
        found += ask.recv(65536)
    ask.close()


def test_just_within_the_limits(connect: Ask) -> None:
    ask = connect()
    ask.sendall(b"GET /%s HTTP/1.1\r\nConnection: close\r\n" % (b"a" * (MAX_LINE_BYTES - 1)))
    ask.sendall(b"X-Long: %s\r\n\r\n" % (b"b" * (MAX_HEADER_BYTES - 100)))
    assert answered(ask).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * MAX_LINE_BYTES + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET /" + b"a" * (8 << 20), b"414"),
        (b"GET / HTTP/1.1\r\nX: " + b"b" * MAX_HEADER_BYTES + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"b" * (8 << 20), b"431"),
        (b"GET / HTTP/1.1\r\n" + b"X-a: bcdef\r\n" * 5000 + b"\r\n", b"431"),
    ],
)
def test_long_heads_are_refused_before_they_are_read(
    connect: Ask, sent: bytes, status: bytes
) -> None:
    ask = connect()
    with contextlib.suppress(ConnectionError):
        ask.sendall(sent)
    found = answered(ask)
    if found:  # a reset may overtake it where much was left unread
        assert found.startswith(b"HTTP/1.1 " + status)
        assert b"application/problem+json" in found
        assert b'"code":"too_large"' in found
    else:
        assert len(sent) > 1 << 20


def test_slow_senders_are_closed(connect: Ask) -> None:
    started = time.monotonic()
    begun = connect()
    begun.sendall(b"GET / HTTP/1.1\r\nHost: a")
    assert b" 408 " in answered(begun)
    half = connect()
    half.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
    assert b" 408 " in answered(half)
    silent = connect()
    assert answered(silent) == b""
    assert time.monotonic() - started < 8
    headers = connect()
    headers.sendall(b"GET / HTTP/1.1\r\n")
    drip(headers, b"X-a: b\r\n")
    body = connect()
    body.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    drip(body, b"x")
    assert time.monotonic() - started < 15


def test_who_waits_for_an_answer_is_not_slow(connect: Ask) -> None:
    ask = connect()
    ask.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answered(ask).startswith(b"HTTP/1.1 200")


def test_a_connection_that_rests_after_an_answer_is_closed(connect: Ask) -> None:
    ask = connect()
    ask.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answered(ask).startswith(b"HTTP/1.1 200")
