"""Identifiers that sort by time: ``job_`` and 24 characters of Crockford's base 32."""

import re
import secrets
import threading
import time
from typing import Literal

from app.errors import InvalidRequest

Prefix = Literal["ds", "job", "mdl", "ckpt", "up"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PATTERN = re.compile(rf"(ds|job|mdl|ckpt|up)_[{_ALPHABET}]{{24}}")
_lock = threading.Lock()
_last = 0


def _encode(number: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(55, -1, -5))


def new_id(prefix: Prefix) -> str:
    """Return a fresh id; a later one of the same process always sorts after an earlier one."""
    global _last
    with _lock:
        _last = max(_last + 1, time.time_ns() // 1000)  # microseconds, 60 bits
        return f"{prefix}_{_encode(_last)}{_encode(secrets.randbits(60))}"


def continue_after(*ids: str) -> None:
    """Have every new id sort after these, also where the clock has been set back since."""
    global _last
    made = [_decode(id_.partition("_")[2][:12]) for id_ in ids if is_id(id_)]
    with _lock:
        _last = max(_last, *made, 0)


def _decode(text: str) -> int:
    number = 0
    for character in text:
        number = number << 5 | _ALPHABET.index(character)
    return number


def is_id(text: str) -> bool:
    """Return whether ``text`` has the form of one of our ids, and so can be nobody's name."""
    return _PATTERN.fullmatch(text) is not None


def refuse_id_as_name(name: str, pointer: str) -> None:
    """Raise InvalidRequest at ``pointer`` for a name that could be another resource's id."""
    if is_id(name):
        raise InvalidRequest.at(pointer, f"'{name}' has the form of an id; choose another name")
