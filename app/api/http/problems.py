"""Errors as ``application/problem+json`` (RFC 9457): which status each gets, and how it reads."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app import errors, logs
from app.api.http.responses import dump_json
from app.errors import FieldError, FitserveError
from app.ml.specs.mistakes import field_errors

_STATUS: dict[type[FitserveError], int] = {
    errors.InvalidJSON: 400,
    errors.MalformedRequest: 400,
    errors.InvalidInput: 422,
    errors.TooLarge: 413,
    errors.RequestLineTooLong: 414,
    errors.HeadersTooLarge: 431,
    errors.RequestTimeout: 408,
    errors.UnsupportedMediaType: 415,
    errors.Unauthorized: 401,
    errors.ForbiddenOrigin: 403,
    errors.UnknownHost: 421,
    errors.NotFound: 404,
    errors.NotAcceptable: 406,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.QueueFull: 429,
    errors.TooManyRequests: 429,
    errors.StorageFull: 507,
    errors.Unavailable: 503,
    errors.ShuttingDown: 503,
    errors.ArtifactCorrupt: 503,
}
_HTTP_CODES = {
    400: "invalid_request",
    404: "not_found",
    406: "not_acceptable",
    413: "too_large",
    415: "unsupported_media_type",
}
_PASSING = {
    *("queue_full", "rate_limited", "too_many_requests", "idempotency_in_progress"),
    *("shutting_down", "unavailable"),
}
"""Codes of what waiting mends; a damaged artifact is none of them."""
_MOST_ERRORS = 20
_MOST_BYTES = 4000

log = logs.get("api")


def status_of(error: FitserveError) -> int:
    """Return the HTTP status of an error: its own, or that of its nearest ancestor with one."""
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
    path: str = "",
) -> Response:
    """Return a problem document, under 4 KiB whatever went wrong.

    It is in the dialect of ``path``, which may be one that has its own idea of an error.
    """
    media = "application/problem+json"
    for longest in (1024, 512, 256, 128, 64):
        body = _body(status, code, detail, fields, longest)
        if path == "/v2" or path.startswith("/v2/"):
            body, media = _inference_protocol_error(body), "application/json"
        elif path == "/invocations":
            body |= _mlflow_fields(body)
        content = dump_json(body)
        if len(content) < _MOST_BYTES:
            break
    again = code in _PASSING
    extra = {"Retry-After": "2"} if again else {}
    return Response(content, status, {**extra, **(headers or {})}, media_type=media)


def _inference_protocol_error(body: dict[str, Any]) -> dict[str, Any]:
    """Return the error as the Open Inference Protocol has it: one string, with the first place."""
    places = body.get("errors") or [{"pointer": ""}]
    where = f" (at {places[0]['pointer']})" if places[0]["pointer"] else ""
    return {"error": body["detail"] + where}


def _mlflow_fields(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that MLflow's clients read, to stand beside ours."""
    code = "BAD_REQUEST" if body["status"] < 500 else "INTERNAL_ERROR"
    return {"error_code": code, "message": body["detail"]}


def _body(
    status: int, code: str, detail: str, fields: Sequence[FieldError], longest: int
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail[:longest],
        "code": code,
        "request_id": logs.request_id.get(),
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


def from_error(error: FitserveError, path: str = "") -> Response:
    """Return the response to an error that was raised on purpose."""
    status = status_of(error)
    if status >= 500:
        log.error("request failed", code=error.code, detail=error.detail)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return problem(status, error.code, error.detail, error.errors, headers, path)


def unexpected(error: Exception, path: str = "") -> Response:
    """Return the response to a fault of ours; the log has the rest."""
    log.error("unexpected error", exc_info=error)
    detail = "an unexpected error happened; the log has it under this id"
    return problem(500, "internal_error", detail, path=path)


def disconnected(path: str = "") -> Response:
    """Return the response to a client that left before its body was read; only the log has it."""
    return problem(400, "invalid_request", "the body was cut off", path=path)


def nothing_here(path: str) -> Response:
    """Return the response to a path that there is not."""
    detail = "there is nothing at this path; /docs lists what there is"
    return problem(404, "not_found", detail, path=path)


def wrong_method(path: str, allowed: Sequence[str]) -> Response:
    """Return the response to a method that ``path`` does not take; 404 where it takes none."""
    if not allowed:
        return nothing_here(path)
    detail = "this path does not take that method; see the Allow header"
    return problem(405, "method_not_allowed", detail, (), {"Allow": ", ".join(allowed)}, path)


def install(app: FastAPI) -> None:
    """Have ``app`` answer every error with a problem document."""
    app.add_exception_handler(FitserveError, _fitserve_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    app.add_exception_handler(Exception, _unexpected)


async def _fitserve_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FitserveError)
    return from_error(error, request.scope["path"])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 405:
        return wrong_method(path, request.app.state.allowed(path))
    if error.status_code == 404:
        return nothing_here(path)
    code = _HTTP_CODES.get(error.status_code, "invalid_request")
    detail = str(error.detail)
    headers = {key: value for key, value in (error.headers or {}).items() if key != "content-type"}
    return problem(error.status_code, code, detail, headers=headers, path=path)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = field_errors(error.errors()[: 2 * _MOST_ERRORS], error.body)
    path = request.scope["path"]
    return problem(422, "invalid_request", fields[0].detail, fields, path=path)


async def _disconnected(request: Request, _error: Exception) -> Response:
    return disconnected(request.scope["path"])


async def _unexpected(request: Request, error: Exception) -> Response:
    return unexpected(error, request.scope["path"])
