"""Whose turn it is to write to SQLite: one at a time, and nobody waits behind somebody stuck.

Only another process can keep BEGIN IMMEDIATE waiting, since ours write in turn. Then one of ours
goes on trying, and all others are refused at once: each would hold a thread that reads need.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import Unavailable

_LOOK_SECONDS = 0.1
"""How often those who wait look at who writes."""
_BEGIN_SECONDS = 0.3
"""After which a transaction that has not begun is thought to be held up by another process."""
_HELD_SECONDS = 10.0
"""After which one that has begun is thought to be stuck, as on a disk that hangs."""


class Turns:
    """``with turns.taken(): begin(); turns.began(); ...``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken_at = 0.0
        self._began = self._failed = False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn, and have it. Raises Unavailable where whoever has it is stuck."""
        while not self._lock.acquire(timeout=_LOOK_SECONDS):
            if self._is_stuck():
                raise Unavailable(
                    "the database cannot be written now: another process holds its lock, or the "
                    "disk hangs; send the request again in a moment"
                )
        try:
            self._began, self._taken_at = False, time.monotonic()
            yield
        finally:
            self._failed = not self._began
            self._lock.release()

    def began(self) -> None:
        """Tell, in one's turn, that the transaction has begun."""
        self._began, self._taken_at = True, time.monotonic()

    def _is_stuck(self) -> bool:
        if self._failed and not self._began:  # the one before could not begin either
            return True
        longest = _HELD_SECONDS if self._began else _BEGIN_SECONDS
        return time.monotonic() - self._taken_at > longest
