"""JSON without its traps: what arrives means one thing, and survives being written again."""

import json
import re
from typing import Any

import numpy as np

from app.errors import InvalidJSON

MAX_DEPTH = 64
_MAX_INTEGER = 2**63
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def parse_strict(body: bytes, what: str = "the body") -> Any:
    """Return the value of a JSON body, which errors call ``what``.

    Raises InvalidJSON for duplicate keys, NaN, numbers that overflow, lone surrogates, integers
    beyond 63 bits and nesting deeper than 64.
    """
    if not body:
        raise InvalidJSON(f"{what} is empty; send a JSON object")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"{what} is not UTF-8; JSON has to be") from error
    if _depth(body) > MAX_DEPTH:
        raise InvalidJSON(f"{what} is nested deeper than {MAX_DEPTH} levels; flatten it")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
        )
    except json.JSONDecodeError as error:
        raise InvalidJSON(f"{what} {_explained(error)}") from error
    if "\\u" in text:
        _refuse_surrogates(value)
    return value


def _explained(error: json.JSONDecodeError) -> str:
    """Return where the text stops being JSON, and whether that is its end."""
    place = f"column {error.colno}"
    if "\n" in error.doc.rstrip():
        place = f"line {error.lineno} {place}"
    if not error.doc[error.pos :].strip() or error.msg.startswith("Unterminated string"):
        return f"is cut off: what is begun at {place} does not end; send all of it"
    return f"is no JSON: {error.msg} at {place}"


def _depth(body: bytes) -> int:
    brackets = _STRING.sub(b"", body).translate(None, _BRACKETS)
    steps = np.frombuffer(brackets, np.uint8)
    opening = (steps == ord("[")) | (steps == ord("{"))
    return int(np.cumsum(np.where(opening, 1, -1)).max(initial=0))


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidJSON(f"the key '{twice[:64]}' stands twice in one object; send it once")
    return found


def _no_constant(name: str) -> Any:
    raise InvalidJSON(f"{name} is no JSON number; send null where a value is unknown")


def _bounded_int(digits: str) -> int:
    if len(digits) > 20 or not -_MAX_INTEGER <= (number := int(digits)) < _MAX_INTEGER:
        raise InvalidJSON(
            f"the integer {digits[:64]} is beyond 63 bits; send it as a string or as a fraction"
        )
    return number


def _finite_float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise InvalidJSON(
            f"the number {digits[:64]} is beyond float64; send a smaller one, or null if not known"
        )
    return number


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidJSON(
            "a string holds a lone surrogate, which is no character; replace it"
        ) from error
