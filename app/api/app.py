"""The application: routes, errors, and the two layers around them."""

from collections.abc import Callable

from fastapi import Depends
from fastapi.applications import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from app import __version__
from app.api import openapi
from app.api.exports import Exports
from app.api.http import idempotency, problems
from app.api.http.gate import Gate
from app.api.http.lanes import Lanes
from app.api.http.methods import Methods, methods_of
from app.api.http.observe import Observe
from app.api.http.prometheus import Metrics
from app.api.http.query import refuse_unknown_parameters
from app.api.job_streams import JobStreams
from app.api.pictures import Pictures
from app.api.routes import (
    datasets,
    dialects,
    evaluations,
    job_files,
    job_history,
    jobs,
    models,
    operations,
    registry,
    uploads,
)
from app.api.serving import Serving
from app.api.serving.engine import Engine
from app.api.uploads import Uploads
from app.runtime.context import Context
from app.services.predictions.predictors import Predictors
from app.services.predictions.resolver import ModelResolver

_NOUNS = (
    datasets,
    uploads,
    jobs,
    job_history,
    job_files,
    models,
    registry,
    evaluations,
    operations,
)
ROUTERS = (*(module.router for module in _NOUNS), dialects.inference, dialects.mlflow)
_DESCRIPTION = """Turns tables into trained PyTorch models.

Upload a table (`POST /v1/datasets`), train on it (`POST /v1/jobs`), watch the loss fall
(`GET /v1/jobs/{id}/metrics`), ask for predictions (`POST /v1/models/{ref}/predict`).
"""


def create_api(context: Context, worker_alive: Callable[[], bool]) -> FastAPI:
    """Return the routes alone, without the layers in front of them."""
    api: FastAPI = FastAPIOffline(
        title="fitserve",
        version=__version__,
        description=_DESCRIPTION,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
        separate_input_output_schemas=False,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    api.state.context = context
    api.state.predictors = Predictors(context.storage, context.settings.model_cache_bytes)
    api.state.models = ModelResolver(context, api.state.predictors)
    api.state.uploads = Uploads(context)
    api.state.lanes = Lanes()
    api.state.exports = Exports(context, api.state.lanes)
    api.state.pictures = Pictures(context.plotters, api.state.lanes.plots)
    api.state.metrics = Metrics(context)
    api.state.streams = JobStreams(context)
    api.state.worker_alive = worker_alive
    api.state.allowed = lambda path: methods_of(api, path)
    for router in ROUTERS:
        api.include_router(router, dependencies=[Depends(refuse_unknown_parameters)])
    problems.install(api)
    idempotency.install(api)
    openapi.complete(api)
    return api


def create_app(context: Context, worker_alive: Callable[[], bool]) -> ASGIApp:
    """Return the whole application as uvicorn serves it."""
    api = create_api(context, worker_alive)
    serving = Serving(api, Engine(context, api.state.models, api.state.uploads))

    def allowed(path: str) -> list[str]:
        return serving.allowed(path) or api.state.allowed(path)

    gate = Gate(Methods(serving, allowed), context.settings)
    return Observe(gate, api.state.metrics)
