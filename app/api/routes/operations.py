"""Health, metrics, and the catalogue of what a job may name."""

import inspect
from collections.abc import Iterable
from typing import Any, cast, get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app import __version__
from app.api.deps import ContextDep
from app.api.http.json_route import StrictJSONRoute
from app.api.http.prometheus import Metrics
from app.ml import specs
from app.ml.tables import synthetic
from app.runtime import health

router = APIRouter(tags=["operations"], route_class=StrictJSONRoute)


@router.get("/livez", response_class=PlainTextResponse)
async def get_livez() -> str:
    """The process answers."""
    return "ok"


@router.get("/readyz")
def get_readyz(request: Request, context: ContextDep) -> JSONResponse:
    """Database, storage and worker can do their work; 503 once the server is stopping."""
    checks = health.checks(context, request.app.state.worker_alive)
    ready = all(state == "ok" for state in checks.values())
    body = {"status": "ready" if ready else "not ready", "version": __version__, "checks": checks}
    headers = {} if ready else {"Retry-After": "2"}
    return JSONResponse(body, 200 if ready else 503, headers)


@router.get("/metrics", response_class=PlainTextResponse)
def get_server_metrics(request: Request) -> Response:
    """Prometheus text format."""
    return Response(cast(Metrics, request.app.state.metrics).text(), media_type=CONTENT_TYPE_LATEST)


def _entries(union: Any, tag: str) -> list[dict[str, Any]]:
    """Return the members of a tagged union: the name, what it is, and its JSON Schema."""
    members: Iterable[type[BaseModel]] = get_args(get_args(union)[0])
    return [
        _entry(name, member)
        for member in members
        for name in get_args(member.model_fields[tag].annotation)
    ]


def _entry(name: str, member: type[BaseModel]) -> dict[str, Any]:
    return {
        "name": name,
        "description": inspect.cleandoc(member.__doc__ or ""),
        "schema": member.model_json_schema(),
    }


_CATALOG = {
    "object": "catalog",
    "models": _entries(specs.ModelSpec, "kind"),
    "layers": _entries(specs.LayerSpec, "kind"),
    "losses": _entries(specs.LossSpec, "kind"),
    "losses_for_task": specs.LOSSES_FOR_TASK,
    "optimizers": _entries(specs.OptimizerSpec, "kind"),
    "schedulers": _entries(specs.SchedulerSpec, "kind"),
    "generators": _entries(synthetic.SyntheticSource, "generator"),
    "job": specs.JobRequest.model_json_schema(),
}


@router.get("/v1/catalog")
def get_catalog() -> dict[str, Any]:
    """All that a job or a dataset may name, each with the JSON Schema of its parameters."""
    return _CATALOG
