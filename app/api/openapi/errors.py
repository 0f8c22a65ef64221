"""Which errors each operation can answer, and what they look like."""

from http import HTTPStatus
from typing import Any

Json = dict[str, Any]

_CODES = (
    *("invalid_json", "unauthorized", "forbidden_origin", "not_found", "method_not_allowed"),
    *(
        "not_acceptable",
        "range_not_satisfiable",
        "timeout",
        "name_taken",
        "in_use",
        "invalid_transition",
        "not_ready",
    ),
    *("idempotency_in_progress", "precondition_failed", "too_large", "unsupported_media_type"),
    *("unknown_host", "invalid_request", "invalid_data", "not_applicable"),
    *("idempotency_key_reused", "queue_full", "rate_limited", "too_many_requests"),
    *("internal_error", "shutting_down", "artifact_corrupt", "unavailable", "storage_full"),
)
_OF_DEFAULT_MODEL = ("/invocations", "/ping", "/health")
_IN_LANES = {
    *("create_job", "get_job", "stream_job_events", "get_dataset_content"),
    *("download_model", "download_checkpoint"),
}
"""So many of a kind are answered at once; a queue of jobs is full in the same way."""
_STRING: Json = {"type": "string"}

SCHEMAS: dict[str, Json] = {
    "Problem": {
        "title": "Problem",
        "type": "object",
        "description": "What went wrong and what to do about it (RFC 9457).",
        "required": ["type", "title", "status", "detail", "code", "request_id"],
        "properties": {
            "type": _STRING,
            "title": {**_STRING, "description": "the status in words"},
            "status": {"type": "integer"},
            "detail": {**_STRING, "description": "what is wrong, with the remedy"},
            "code": {
                **_STRING,
                "description": "stable, to branch on; there may be more: " + ", ".join(_CODES),
            },
            "request_id": {**_STRING, "description": "on every log line of the request"},
            "errors": {
                "type": "array",
                "maxItems": 20,
                "items": {"$ref": "#/components/schemas/ProblemField"},
            },
        },
        "x-optional": ["errors"],
    },
    "ProblemField": {
        "title": "ProblemField",
        "type": "object",
        "description": "One wrong place in what was sent.",
        "required": ["pointer", "detail", "code"],
        "properties": {
            "pointer": {**_STRING, "description": "a JSON pointer, such as /rows/3/carat"},
            "detail": _STRING,
            "code": _STRING,
        },
    },
    "InferenceError": {
        "title": "InferenceError",
        "type": "object",
        "description": "What went wrong, as the Open Inference Protocol has it.",
        "required": ["error"],
        "properties": {"error": _STRING},
    },
}


_PROBLEM: Json = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_INFERENCE_ERROR: Json = {
    "application/json": {"schema": {"$ref": "#/components/schemas/InferenceError"}}
}
_OF_CONNECTION = {408, 414, 431}
"""Of a request that comes too slowly or whose head is too large: nobody has read its path."""


def declare(path: str, method: str, operation: Json) -> None:
    """Add the errors that the operation can answer to its ``responses``."""
    responses = operation["responses"]
    responses.pop("422", None)  # FastAPI's, of another shape
    oip = path == "/v2" or path.startswith("/v2/")
    own = _INFERENCE_ERROR if oip else _PROBLEM
    for status in sorted(_statuses(path, method, operation)):
        form = _PROBLEM if status in _OF_CONNECTION else own
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": form}


def _statuses(path: str, method: str, operation: Json) -> set[int]:
    """Return the statuses from 400 on."""
    parameters = {item["name"].lower() for item in operation.get("parameters", [])}
    creates = "idempotency-key" in parameters
    contents = [answer.get("content", {}) for answer in operation["responses"].values()]
    probe = path in ("/livez", "/readyz")
    found = {403, 421, 422, 500} | _OF_CONNECTION  # an unknown query parameter is 422 everywhere
    for applies, statuses in (
        (not probe, {401}),
        (path != "/livez", {503}),
        ("requestBody" in operation, {400, 413, 415}),
        ("{" in path or path in _OF_DEFAULT_MODEL or path == "/v1/jobs", {404}),
        (bool(parameters & {"after", "dataset"}), {404}),
        (method in ("post", "put"), {507}),
        (method == "delete" or path.startswith("/v1/jobs"), {409}),
        (creates, {400, 409}),
        (operation["operationId"] in _IN_LANES or "/plots/" in path, {429}),
        (path.endswith("/rows"), {413}),
        ("if-match" in parameters or "304" in operation["responses"], {412}),
        ("/plots/" in path, {412}),
        ("206" in operation["responses"], {400, 416}),
        (any(len(content) > 1 for content in contents), {406}),
    ):
        found |= statuses if applies else set()
    return found
