"""Errors as ``application/problem+json`` (RFC 9457): which status each gets, and how it reads."""

from collections.abc import Sequence
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app import errors, logs
from app.api.bodies import dump
from app.errors import FieldError, FitserveError
from app.ml.specs import JobRequest, field_names

_STATUS: dict[type[FitserveError], int] = {
    errors.InvalidJSON: 400,
    errors.InvalidInput: 422,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.Unauthorized: 401,
    errors.ForbiddenOrigin: 403,
    errors.UnknownHost: 421,
    errors.NotFound: 404,
    errors.NotAcceptable: 406,
    errors.Conflict: 409,
    errors.StorageFull: 507,
    errors.Unavailable: 503,
    errors.ShuttingDown: 503,
    errors.ArtifactCorrupt: 503,
}
_HTTP_CODES = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "too_large",
    415: "unsupported_media_type",
}
_MOST_ERRORS = 20
_OWN = {"fractions", "length", "cells", "nesterov", "duplicate", "too_many_fields"}
_LARGEST = 4000

log = logs.get("api")


def status_of(error: FitserveError) -> int:
    """The HTTP status of an error: its own, or that of its nearest ancestor that has one."""
    for ancestor in type(error).__mro__:
        if ancestor in _STATUS:
            return _STATUS[ancestor]
    return 500


def problem(
    status: int,
    code: str,
    detail: str,
    fields: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """A problem document; under 4 KiB whatever went wrong."""
    for longest in (1024, 512, 256, 128, 64):
        content = dump(_body(status, code, detail, fields, longest))
        if len(content) < _LARGEST:
            break
    extra = {"Retry-After": "2"} if status == 503 else {}
    return Response(
        content, status, {**extra, **(headers or {})}, media_type="application/problem+json"
    )


def _body(
    status: int, code: str, detail: str, fields: Sequence[FieldError], longest: int
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail[:longest],
        "code": code,
        "request_id": structlog.contextvars.get_contextvars().get("request_id"),
    }
    if fields:
        body["errors"] = [
            {
                "pointer": f.pointer[: longest // 2],
                "detail": f.detail[: longest // 2],
                "code": f.code,
            }
            for f in fields[: max(1, _MOST_ERRORS * longest // 1024)]
        ]
    return body


def of(error: FitserveError) -> Response:
    """The answer to one of our own errors."""
    status = status_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return problem(status, error.code, error.detail, error.errors, headers)


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""
    app.add_exception_handler(FitserveError, _fitserve_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    app.add_exception_handler(Exception, _unexpected)


async def _fitserve_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FitserveError)
    if status_of(error) >= 500:
        log.error("request failed", code=error.code, detail=error.detail)
    return of(error)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "invalid_request")
    detail = str(error.detail)
    if error.status_code == 404:
        detail = "there is nothing at this path; /docs lists what there is"
    if error.status_code == 405:
        detail = "this path does not take that method; see the Allow header"
    headers = {key: value for key, value in (error.headers or {}).items() if key != "content-type"}
    return problem(error.status_code, code, detail, headers=headers)


async def _disconnected(_request: Request, _error: Exception) -> Response:
    return problem(400, "invalid_request", "the body was cut off")  # for the log; nobody listens


async def _unexpected(_request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return problem(
        500, "internal_error", "an unexpected error happened; the log has it under this id"
    )


# ---------------------------------------------------------------- pydantic's errors, for people


async def _validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [_field(item, error.body) for item in error.errors()[: 2 * _MOST_ERRORS]]
    by_pointer: dict[str, FieldError] = {}
    for field in fields:  # of a union's branches, the one that was not meant says "string_type"
        if field.pointer not in by_pointer or by_pointer[field.pointer].code == "string_type":
            by_pointer[field.pointer] = field
    fields = list(by_pointer.values())
    return problem(422, "invalid_request", fields[0].detail, fields)


def _field(item: dict[str, Any], body: Any) -> FieldError:
    parts, value = _place(item["loc"], body, absent=item["type"] == "missing")
    if item["type"] == "union_tag_invalid" and isinstance(value, dict):
        parts.append(item["ctx"]["discriminator"].strip("'"))
    # "unknown optimizer", though it is the optimizer's kind that is unknown
    name = _name(parts[:-1] if parts[-1:] == ["kind"] and len(parts) > 1 else parts)
    escaped = [str(part).replace("~", "~0").replace("/", "~1")[:64] for part in parts]
    return FieldError("".join(f"/{part}" for part in escaped), _detail(item, name), item["type"])


def _place(location: Sequence[str | int], body: Any, absent: bool) -> tuple[list[str | int], Any]:
    """The path in what was sent, without the tags of unions that pydantic puts between, and what
    stands there. ``absent``: the last part is the name of a field that is not there.
    """
    where, *parts = location
    if where != "body":
        return list(parts), None
    kept: list[str | int] = []
    here = body
    for i, part in enumerate(parts):
        inside = isinstance(here, dict) and part in here
        inside = inside or (isinstance(here, list) and isinstance(part, int) and part < len(here))
        if inside:
            here = here[part]
            kept.append(part)
        elif absent and i == len(parts) - 1:
            kept.append(part)
    return kept, here


def _name(parts: Sequence[str | int]) -> str:
    """What a person would call the place: ``hidden[0]``."""
    if not parts:
        return "body"
    if isinstance(parts[-1], int):
        return f"{parts[-2] if len(parts) > 1 else 'item'}[{parts[-1]}]"
    return parts[-1]


_KNOWN = field_names(JobRequest) | {"name", "source", "types", "metadata", "replace"}


def _detail(item: dict[str, Any], name: str) -> str:
    context = item.get("ctx", {})
    match item["type"]:
        case "missing":
            return f"'{name}' is required"
        case "extra_forbidden":
            guess = get_close_matches(name[:64], _KNOWN - {name}, n=1)
            remedy = f"did you mean '{guess[0]}'?" if guess else "leave it out"
            return f"unknown field '{name[:64]}'; {remedy}"
        case "union_tag_invalid":
            return _unknown(name, str(context["tag"]), _quoted(context["expected_tags"]))
        case "union_tag_not_found":
            return f"'{name}' wants an object with {context['discriminator']}"
        case "literal_error":
            return _unknown(f"value of '{name}':", item.get("input"), _quoted(context["expected"]))
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"'{name}' should be a JSON object"
        case "none_required":
            return f"'{name}' can only be null as yet"
        case "string_pattern_mismatch":
            return f"'{name}' must match {context['pattern']}"
        case kind:
            said = str(item["msg"]).replace("Input should be", f"'{name}' should be")
            given = item.get("input")
            simple = isinstance(given, str | int | float | bool) and kind.endswith(
                ("_type", "equal", "_than")
            )
            said = f"{said}, got {_short(given)}" if simple else said
            return said if f"'{name}'" in said or kind in _OWN else f"'{name}': {said}"


def _unknown(name: str, value: Any, known: list[str]) -> str:
    listed = ", ".join(f"'{item}'" for item in known)
    if not isinstance(value, str):
        return f"unknown {name} {_short(value)}; there are {listed}"
    guess = get_close_matches(value, known, n=1)
    remedy = f"did you mean '{guess[0]}'? There are {listed}" if guess else f"there are {listed}"
    return f"unknown {name} {_short(value)}; {remedy}"


def _quoted(text: str) -> list[str]:
    return [part for part in text.split("'")[1::2] if part]


def _short(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value[:64]}'"
    return str(value).lower()[:64] if isinstance(value, bool) else str(value)[:64]
