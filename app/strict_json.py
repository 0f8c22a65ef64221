"""JSON without its traps: what arrives means one thing, and survives being written again."""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from app.errors import InvalidJSON, escape

MAX_DEPTH = 64
_MAX_INTEGER = 2**63
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class _Trap:
    """Stands in a value where the text means nothing, or two things, and says why."""

    def __init__(self, detail: str) -> None:
        self.detail = detail


def parse_strict(body: bytes, what: str = "the body", *, nan_is_null: bool = False) -> Any:
    """Return the value of a JSON body, which errors call ``what``; ``nan_is_null`` takes NaN, as
    Python's and pandas' writers leave it in files, for a missing value.

    Raises InvalidJSON, at its place in the value, for duplicate keys, NaN, numbers that overflow,
    lone surrogates, integers beyond 63 bits and nesting deeper than 64.
    """
    return _parse(body, what, lenient=False, nan_is_null=nan_is_null)


def parse_fast(
    body: bytes | memoryview, what: str = "the body", *, nan_is_null: bool = False
) -> Any:
    """Return JSON as rows to predict come in: of equal keys the last counts, and integers of any
    size are numbers; NaN is refused, or null as in ``parse_strict``.

    Raises InvalidJSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # which knows what to do about it
        value = _parse(bytes(body), what, lenient=True, nan_is_null=nan_is_null)
        if nan_is_null:
            return value
        raise InvalidJSON(f"{what} is no JSON: {error}") from error


def _parse(body: bytes, what: str, *, lenient: bool, nan_is_null: bool) -> Any:
    if not body.strip():
        raise InvalidJSON(f"{what} is empty; send a JSON object")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"{what} is not UTF-8; JSON has to be") from error
    if not lenient and _depth(body) > MAX_DEPTH:
        raise InvalidJSON(f"{what} is nested deeper than {MAX_DEPTH} levels; flatten it")
    traps = _Traps(nan_is_null)
    try:
        value = json.loads(
            text,
            object_pairs_hook=None if lenient else traps.refuse_duplicates,
            parse_constant=traps.refuse_constant,
            parse_int=float if lenient else traps.bounded_int,
            parse_float=traps.finite_float,
        )
    except json.JSONDecodeError as error:
        raise InvalidJSON(f"{what} {_explained(error)}") from error
    except RecursionError as error:
        raise InvalidJSON(f"{what} is nested deeper than a thousand levels; flatten it") from error
    if traps.found:
        trap = traps.found[0]
        pointer = next((at for at, there in _places(value) if there is trap), "")
        raise InvalidJSON.at(pointer, trap.detail)
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
    message = error.msg.removesuffix(" at")  # json's own, for control characters
    return f"is no JSON: {message} at {place}"


def _depth(body: bytes) -> int:
    brackets = _STRING.sub(b"", body).translate(None, _BRACKETS)
    steps = np.frombuffer(brackets, np.uint8)
    opening = (steps == ord("[")) | (steps == ord("{"))
    return int(np.cumsum(np.where(opening, 1, -1)).max(initial=0))


class _Traps:
    """Hooks for ``json.loads`` that put traps in the place of what cannot be taken."""

    def __init__(self, nan_is_null: bool) -> None:
        self.found: list[_Trap] = []
        self._nan_is_null = nan_is_null

    def _trap(self, detail: str) -> _Trap:
        trap = _Trap(detail)
        self.found.append(trap)
        return trap

    def refuse_duplicates(self, pairs: list[tuple[str, Any]]) -> Any:
        """Return an object whose keys differ."""
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            found[twice] = self._trap(
                f"the key '{twice[:64]}' stands twice in one object; send it once"
            )
        return found

    def refuse_constant(self, name: str) -> Any:
        """Return no NaN and no infinity."""
        if name == "NaN" and self._nan_is_null:
            return None
        return self._trap(f"{name} is no JSON number; send null where a value is unknown")

    def bounded_int(self, digits: str) -> Any:
        """Return an integer of 63 bits and a sign."""
        if len(digits) <= 20 and -_MAX_INTEGER <= (number := int(digits)) < _MAX_INTEGER:
            return number
        return self._trap(
            f"the integer {digits[:64]} is beyond 63 bits; no setting is as large, and a value of "
            "a table goes as a string or as a fraction (1e20)"
        )

    def finite_float(self, digits: str) -> Any:
        """Return a fraction that float64 can hold."""
        number = float(digits)
        if number not in (float("inf"), float("-inf")):
            return number
        return self._trap(
            f"the number {digits[:64]} is beyond float64; send a smaller one, or null if not known"
        )


def _places(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value in ``value`` after its JSON pointer."""
    yield pointer, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, f"{pointer}/{escape(key)}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _places(item, f"{pointer}/{i}")


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidJSON(
            "a string holds a lone surrogate, which is no character; replace it"
        ) from error
