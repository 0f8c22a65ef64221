"""What serving protocols have beside predictions: health, and metadata of server and models.

The Open Inference Protocol v2 under ``/v2``, and MLflow's ``/ping``, ``/health`` and ``/version``.
"""

from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from app import __version__
from app.api.deps import ContextDep
from app.api.http.json_route import StrictJSONRoute
from app.api.serving import oip
from app.api.serving.mlflow import default_model
from app.errors import Unavailable
from app.runtime import health
from app.runtime.context import Context
from app.services.models import versions
from app.services.predictions.resolver import ModelResolver

inference = APIRouter(prefix="/v2", tags=["inference protocol"], route_class=StrictJSONRoute)
mlflow = APIRouter(tags=["MLflow scoring"], route_class=StrictJSONRoute)


def _models(request: Request) -> ModelResolver:
    return cast(ModelResolver, request.app.state.models)


@inference.get("")
async def get_server_metadata() -> dict[str, Any]:
    """Who answers."""
    return {"name": "fitserve", "version": __version__, "extensions": ["binary_tensor_data"]}


@inference.get("/health/live")
async def get_server_live() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@inference.get("/health/ready")
def get_server_ready(request: Request, context: ContextDep) -> dict[str, bool]:
    """As ``/readyz``; 503 where it is not."""
    checks = health.checks(context, request.app.state.worker_alive)
    failing = [f"{part}: {state}" for part, state in checks.items() if state != "ok"]
    if failing:
        raise Unavailable(", ".join(failing))
    return {"ready": True}


@inference.get("/models/{name}")
def get_model_metadata(name: str, request: Request, context: ContextDep) -> dict[str, Any]:
    """Inputs, outputs and versions of a model."""
    return _metadata(name, request, context)


@inference.get("/models/{name}/versions/{version}")
def get_version_metadata(
    name: str, version: int, request: Request, context: ContextDep
) -> dict[str, Any]:
    """The same of one version."""
    return _metadata(f"{name}@{version}", request, context)


def _metadata(ref: str, request: Request, context: Context) -> dict[str, Any]:
    model = _models(request).get(ref)
    with context.database.read() as session:
        known = [str(number) for number in versions.numbers(session, model.name)]
    return oip.metadata(model, known)


@inference.get("/models/{name}/ready")
def get_model_ready(name: str, request: Request) -> dict[str, Any]:
    """It is loaded now if it was not."""
    return {"name": _models(request).get(name).name, "ready": True}


@inference.get("/models/{name}/versions/{version}/ready")
def get_version_ready(name: str, version: int, request: Request) -> dict[str, Any]:
    """It is loaded now if it was not."""
    return {"name": _models(request).get(f"{name}@{version}").name, "ready": True}


@mlflow.get("/ping", response_class=PlainTextResponse, name="get_ping")
@mlflow.get("/health", response_class=PlainTextResponse, name="get_health")
def ping(request: Request, context: ContextDep) -> Response:
    """200 where the default model can predict."""
    _models(request).get(default_model(context.settings.default_model))
    return PlainTextResponse("\n")


@mlflow.get("/version", response_class=PlainTextResponse)
async def get_version() -> str:
    """Of this server."""
    return __version__
