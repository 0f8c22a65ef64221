"""The OpenAPI document: what FastAPI finds, and what it cannot see, told so that machines generate
clients from it: errors, security, the routes that are plain ASGI, and bodies read by their route.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from app.api.openapi import errors, predictions
from app.api.openapi.examples import EXAMPLES, FILES
from app.api.schemas.datasets import DatasetRequest
from app.api.schemas.evaluations import EvaluateRequest

Json = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_BEARER: Json = {
    "type": "http",
    "scheme": "bearer",
    "description": "the key in FITSERVE_API_KEY; without one the server listens on loopback only "
    "and wants none",
}
_HEADERS: dict[str, Json] = {
    "idempotency-key": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "prefer": {"type": "string", "examples": ["wait=30"]},
}
_ALIAS = "^(?=.*[A-Za-z._-])[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_METHODS = ("get", "put", "post", "delete", "patch")


def operation_id(route: APIRoute) -> str:
    """Return the name of a route's function: short, and unique in the document."""
    return route.name


def complete(api: FastAPI) -> None:
    """Have ``api.openapi()`` describe also what FastAPI does not see.

    It is made once, in a thread: that takes a second, in which the event loop would stand still.
    """
    generate = api.openapi

    def openapi() -> Json:
        if api.openapi_schema is None:
            _complete(generate())  # which sets openapi_schema
        return api.openapi_schema or {}

    def get_openapi(_request: Request) -> JSONResponse:
        return JSONResponse(openapi())

    api.openapi = openapi  # type: ignore[method-assign]
    url = str(api.openapi_url)
    routes = api.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", None) != url]
    api.add_route(url, get_openapi, include_in_schema=False)


def _complete(document: Json) -> None:
    schemas = document["components"]["schemas"]
    for model in (DatasetRequest, EvaluateRequest):  # bodies that their routes read themselves
        schema = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    document["paths"].update(deepcopy(predictions.PATHS))
    for path, method, operation in operations(document):
        errors.declare(path, method, operation)
        if path in ("/livez", "/readyz"):
            operation["security"] = []
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "header":  # may come on several lines; one has room for all
                parameter["schema"] = _HEADERS.get(parameter["name"].lower(), {"type": "string"})
            elif parameter["name"] == "wait":
                parameter["schema"] = {"type": "number", "minimum": 0}
            elif parameter["name"] == "alias":
                parameter["schema"] = {"type": "string", "pattern": _ALIAS}
        _show_examples(operation)
    schemas.update(deepcopy(errors.SCHEMAS | predictions.SCHEMAS))
    for left in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which we never send
        schemas.pop(left, None)
    document["components"]["securitySchemes"] = {"bearer": _BEARER}
    document["security"] = [{"bearer": []}, {}]
    for part in _objects(document):
        _flatten_nested_union(part)
        _whole_bounds(part)
        _open(part)
    _require_what_is_always_answered(document)
    _leave_out_defaults(document)


def _show_examples(operation: Json) -> None:
    bodies = operation.get("requestBody", {}).get("content", {})
    if (name := operation["operationId"]) in EXAMPLES:
        bodies["application/json"]["examples"] = EXAMPLES[name]
    for media in bodies.keys() & FILES.keys():
        bodies[media] = bodies[media] | {"examples": FILES[media]}


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Yield every operation with its path and its method in lower case."""
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _objects(value: Any) -> Iterator[Json]:
    """Yield every object in ``value``, the inner ones first."""
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from _objects(inner)
    if isinstance(value, dict):
        yield value


def _flatten_nested_union(schema: Json) -> None:
    """Make one list of a union of unions: a discriminator maps names to schemas, not to unions.

    The outer discriminator goes, since one of its names stands for several schemas.
    """
    mapping = schema.get("discriminator", {}).get("mapping", {})
    if any(isinstance(target, dict) for target in mapping.values()):
        del schema["discriminator"]
        members = schema.pop("oneOf")
        schema["anyOf"] = [part for member in members for part in member.get("oneOf", [member])]


def _whole_bounds(schema: Json) -> None:
    """Write the bounds of an integer as integers: FastAPI makes floats of them, which round."""
    if schema.get("type") == "integer":
        for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if bound in schema:
                schema[bound] = int(schema[bound])


def _open(schema: Json) -> None:
    """Say of objects that may hold anything that they do: openapi-typescript takes those for empty
    of which nothing is said."""
    closed = {"properties", "additionalProperties", "anyOf", "oneOf", "allOf"}
    if schema.get("type") == "object" and not schema.keys() & closed:
        schema["additionalProperties"] = True


def _leave_out_defaults(document: Json) -> None:
    """Tell the defaults of what is sent in descriptions: of a field that has one in its schema
    openapi-typescript says that it must be there."""
    schemas = document["components"]["schemas"]
    for name in _asked(document):
        for key, field in schemas[name].get("properties", {}).items():
            if "default" in field and key != "kind":  # which tells the members of a union apart
                default = field.pop("default")
                if default is not None:
                    told = [field.get("description"), f"left out: {json.dumps(default)}"]
                    field["description"] = "; ".join(filter(None, told))


def _asked(document: Json) -> set[str]:
    """Return the names of the schemas of what is sent."""
    bodies = [op.get("requestBody", {}) for _, _, op in operations(document)]
    return _reachable(document["components"]["schemas"], bodies)


def _require_what_is_always_answered(document: Json) -> None:
    """Say of the schemas that only answers have that all their fields are there: they are.

    Specs are closed objects, and those of an older version's lineage may lack a newer field.
    """
    schemas = document["components"]["schemas"]
    asked = _asked(document)
    for name, schema in schemas.items():
        optional = schema.pop("x-optional", [])
        if name not in asked and "properties" in schema and "additionalProperties" not in schema:
            schema["required"] = [field for field in schema["properties"] if field not in optional]


def _reachable(schemas: Json, parts: list[Json]) -> set[str]:
    found: set[str] = set()
    while parts:
        for item in _objects(parts.pop()):
            name = str(item.get("$ref", "")).removeprefix(_SCHEMAS)
            if name in schemas and name not in found:
                found.add(name)
                parts.append(schemas[name])
    return found
