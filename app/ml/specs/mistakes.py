"""pydantic's errors as sentences for people: a pointer into what was sent, and the remedy."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from app.errors import FieldError, InvalidRequest, escape
from app.ml.specs.hints import place_of, value_for
from app.ml.specs.job import JobRequest, field_names

_Model = TypeVar("_Model", bound=BaseModel)

_MOST_ITEMS = 40
"""Mistakes that are looked at."""
_NO_STRING = "should be a string"
_OWN_TYPES = {
    "fractions",
    "length",
    "cells",
    "nesterov",
    "duplicate",
    "too_many_fields",
    "too_many_pairs",
}
_OWN_TYPES |= {"threshold", "class_weight_list", "etas", "milestones", "max_lr"}
_EXAMPLE_OF_JSON = '{"zip":"category"}'
_TYPES_WITH_INPUT = ("_type", "equal", "_than")


def checked(model: type[_Model], value: Any) -> _Model:
    """Return ``value`` as a ``model``. Raises InvalidRequest with every place that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        items = error.errors(include_url=False)[:_MOST_ITEMS]
        fields = field_errors([{**item, "loc": ("body", *item["loc"])} for item in items], value)
        raise InvalidRequest(fields[0].detail, fields) from error


def field_errors(items: Sequence[Any], body: Any) -> list[FieldError]:
    """Return pydantic's errors ``items`` in the request with ``body``, one for each place."""
    return _merge_places([_field(item, body) for item in items])


def _merge_places(fields: Sequence[FieldError]) -> list[FieldError]:
    """Return one error for each pointer.

    Where a field may be a string or a list, pydantic complains of both: what is wrong with the list
    is what was meant.
    """
    found: dict[str, FieldError] = {}
    for field in fields:
        before = found.setdefault(field.pointer, field)
        if before is not field and before.detail.endswith(_NO_STRING):
            neither = field.code == "wrong_type"
            detail = f"{before.detail} or a list of them" if neither else field.detail
            found[field.pointer] = replace(field, detail=detail)
    inner = {pointer.rpartition("/")[0] for pointer in found}
    return [field for pointer, field in found.items() if pointer not in inner or len(found) == 1]


def _field(item: dict[str, Any], body: Any) -> FieldError:
    parts, value = _place(item["loc"], body, absent=item["type"] == "missing")
    if item["type"] == "union_tag_invalid" and isinstance(value, dict):
        parts.append(item["ctx"]["discriminator"].strip("'"))
    # "unknown optimizer", though it is the optimizer's kind that is unknown
    name = _name(parts[:-1] if parts[-1:] == ["kind"] and len(parts) > 1 else parts)
    item = {**item, "siblings": body if isinstance(body, dict) else {}}
    pointer = "".join(f"/{escape(str(part))[:64]}" for part in parts)
    return FieldError(pointer, _detail(item, name), _code(item["type"]))


def _place(location: Sequence[str | int], body: Any, absent: bool) -> tuple[list[str | int], Any]:
    """Return the path in ``body``, without the tags of unions that pydantic puts between, and what
    stands there. ``absent``: the last part is the name of a field that is not there.
    """
    where, *parts = location
    if where != "body":
        return list(parts), None
    path: list[str | int] = []
    here = body
    for i, part in enumerate(parts):
        inside = isinstance(here, dict) and part in here
        inside = inside or (isinstance(here, list) and isinstance(part, int) and part < len(here))
        if inside:
            here = here[part]
            path.append(part)
        elif (absent and i == len(parts) - 1) or _holds_json(here):
            path.append(part)
    return path, here


def _holds_json(value: Any) -> bool:
    """Whether the places behind ``value`` are within a string, as a form has its objects."""
    return isinstance(value, str) and value.lstrip()[:1] == "{"


def _name(parts: Sequence[str | int]) -> str:
    """Return what a person would call the place: ``hidden[0]``."""
    if not parts:
        return "body"
    if isinstance(parts[-1], int):
        return f"{parts[-2] if len(parts) > 1 else 'item'}[{parts[-1]}]"
    return parts[-1]


_KNOWN = field_names(JobRequest) | {"name", "source", "types", "metadata", "replace"}


def _code(kind: str) -> str:
    """Return a stable name for a kind of mistake; pydantic's own change with it."""
    if kind.endswith(("_type", "_parsing", "_required", "_from_float")):
        return "wrong_type"
    if kind.startswith(("greater_", "less_", "finite_")):
        return "out_of_range"
    if kind.startswith(("too_", "string_too_")):
        return "wrong_length"
    return _CODES.get(kind, "invalid")


_CODES = {
    "missing": "missing",
    "extra_forbidden": "unknown_field",
    "union_tag_invalid": "unknown_value",
    "union_tag_not_found": "missing",
    "literal_error": "unknown_value",
}


def _detail(item: dict[str, Any], name: str) -> str:
    write = _SENTENCES.get(item["type"])
    if write is not None:
        return write(name, item)
    sentence = str(item["msg"]).replace("Input should be", f"'{name}' should be")
    value = item.get("input")
    if isinstance(value, str | int | float | bool) and item["type"].endswith(_TYPES_WITH_INPUT):
        sentence = f"{sentence}, got {_short(value)}"
    return (
        sentence
        if f"'{name}'" in sentence or item["type"] in _OWN_TYPES
        else f"'{name}': {sentence}"
    )


def _unknown_field(name: str, item: dict[str, Any]) -> str:
    if name == "types":
        return "unknown field 'types'; it stands beside 'reading', not in it"
    job, value = item["siblings"], item.get("input")
    if "dataset" in job and (place := place_of(name[:64], value, job)) is not None:
        near = get_close_matches(name[:64], JobRequest.model_fields, n=1, cutoff=0.8)
        remedy = f"did you mean '{near[0]}'? A job" if near else "a job"
        return f"unknown field '{name[:64]}'; {remedy} says it so: {place}"
    guess = get_close_matches(name[:64], _KNOWN - {name}, n=1) or _begun(name)
    remedy = f"did you mean '{guess[0]}'?" if guess else "leave it out"
    return f"unknown field '{name[:64]}'; {remedy}"


def _begun(name: str) -> list[str]:
    """Return the field of which ``name`` is the beginning: ``val`` of ``validation``."""
    longer = (known for known in _KNOWN if known.startswith(name) and known != name)
    return sorted(longer)[:1] if len(name) > 2 else []


def _unknown_tag(name: str, item: dict[str, Any]) -> str:
    value = item["input"].get(item["ctx"]["discriminator"].strip("'"))
    return _unknown(name, value, _quoted(item["ctx"]["expected_tags"]))


def _whole_number(name: str, item: dict[str, Any]) -> str:
    return f"'{name}' should be a whole number, got {_short(item.get('input'))}"


def _boolean(name: str, item: dict[str, Any]) -> str:
    return f"'{name}' should be true or false, got {_short(item.get('input'))}"


def _json_object(name: str, _item: dict[str, Any]) -> str:
    return f"'{name}' should be a JSON object"


_SENTENCES: dict[str, Callable[[str, dict[str, Any]], str]] = {
    "missing": lambda name, _: f"'{name}' is required",
    "extra_forbidden": _unknown_field,
    "union_tag_invalid": _unknown_tag,
    "union_tag_not_found": lambda name, item: (
        f"'{name}' wants an object with {item['ctx']['discriminator']}"
    ),
    "literal_error": lambda name, item: _unknown(
        f"value of '{name}':", item.get("input"), _quoted(item["ctx"]["expected"])
    ),
    "string_pattern_mismatch": lambda name, _: (
        f"'{name}' may have letters, digits, '.', '_' and '-', up to 64, and begins with a letter "
        "or a digit"
    ),
    "list_type": lambda name, _: f"'{name}' should be a list",
    "string_type": lambda name, _: f"'{name}' {_NO_STRING}",
    "string_too_short": lambda name, _: f"'{name}' must not be empty",
    "json_invalid": lambda name, _: f"'{name}' should be JSON, such as {_EXAMPLE_OF_JSON}",
    "bool_type": _boolean,
    "bool_parsing": _boolean,
    "int_type": _whole_number,
    "int_parsing": _whole_number,
    "int_from_float": _whole_number,
    "too_short": lambda name, item: f"'{name}' needs at least {item['ctx']['min_length']}",
    "too_long": lambda name, item: (
        f"'{name}' takes at most {item['ctx']['max_length']}, got {item['ctx']['actual_length']}"
    ),
    "string_too_long": lambda name, item: (
        f"'{name}' may have at most {item['ctx']['max_length']} characters"
    ),
    "none_required": lambda name, _: f"'{name}' can only be null as yet",
    "model_type": _json_object,
    "model_attributes_type": _json_object,
    "dict_type": _json_object,
}


def _unknown(name: str, value: Any, known: list[str]) -> str:
    listed = ", ".join(f"'{item}'" for item in known)
    if not isinstance(value, str):
        return f"unknown {name} {_short(value)}; there are {listed}"
    meant = value_for(value, known)
    guess = [meant] if meant else get_close_matches(value, known, n=1)
    remedy = f"did you mean '{guess[0]}'? There are {listed}" if guess else f"there are {listed}"
    return f"unknown {name} {_short(value)}; {remedy}"


def _quoted(text: str) -> list[str]:
    """Return the values that pydantic lists as Python writes strings: ``'a', "'" or 'b'``."""
    return [one or other for one, other in re.findall(r"'([^']*)'|\"([^\"]*)\"", text)]


def _short(value: Any) -> str:
    """Return a value as JSON would have it, in at most 64 characters."""
    if isinstance(value, str):
        return f"'{value[:64]}'"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return orjson.dumps(value).decode()[:64]
