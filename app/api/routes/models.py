"""``/v1/models``."""

from functools import partial
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from app.api.deps import (
    AscendingDep,
    ContextDep,
    ExportsDep,
    NamedDep,
    PicturesDep,
    PredictorsDep,
    UploadsDep,
    VersionsDep,
)
from app.api.downloads import (
    BINARY,
    MODEL_DOWNLOAD,
    PICTURE,
    ImageFormat,
    bundle_response,
    safetensors_response,
)
from app.api.http.idempotency import IdempotentRequestDep
from app.api.http.json_route import StrictJSONRoute
from app.api.http.lanes import HeldDep, LanesDep
from app.api.http.media_types import media_type
from app.api.http.responses import json_response
from app.api.schemas.curves import EffectOut
from app.api.schemas.models import (
    ImportanceOut,
    Layer,
    ModelList,
    ModelOut,
    Parameter,
    ParametersOut,
    SummaryOut,
)
from app.db.models import ModelVersion
from app.errors import UnsupportedMediaType
from app.hashes import sha256_of
from app.ml.specs import Name
from app.runtime.context import Context
from app.runtime.pagination import Page, page_of
from app.services.jobs import effects, model_plots
from app.services.jobs.model_plots import ModelPlot
from app.services.models import aliases, bundles, versions
from app.services.predictions.resolver import load_version

_BUNDLES = ("application/zip", "application/x-zip-compressed", "application/octet-stream")

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=StrictJSONRoute)


def version_response(_session: Any, version: ModelVersion) -> Response:
    """Return the answer that tells of a new version."""
    return json_response(ModelOut.of(version, []), 201, {"Location": f"/v1/models/{version.id}"})


def _find(context: Context, ref: str) -> ModelVersion:
    with context.database.read() as session:
        return versions.find(session, ref)


def _model_list(session: Any, page: Page[ModelVersion]) -> ModelList:
    names = aliases.by_version(session, page.rows)
    data = [ModelOut.of(row, names[row.id]) for row in page.rows]
    return ModelList.of_page(data, page.has_more)


@router.get("")
def list_models(
    context: ContextDep,
    paging: NamedDep,
    named: Annotated[bool, Query(description="leave out those that only their job names")] = False,
) -> ModelList:
    """Each model by its newest version, newest first."""
    with context.database.read() as session:
        page = versions.newest(session, paging, named=named)
        return _model_list(session, page)


@router.post(
    "",
    status_code=201,
    openapi_extra={
        "requestBody": {"required": True, "content": dict.fromkeys(_BUNDLES, BINARY)},
    },
    responses={201: {"model": ModelOut}},
    response_model=None,
)
async def import_model(
    request: Request,
    context: ContextDep,
    uploads: UploadsDep,
    idempotent: IdempotentRequestDep,
    name: Annotated[Name | None, Query(description="left out: the name it had")] = None,
) -> Response:
    """A bundle, from this server or another, as the next version of a model."""
    media = media_type(request)
    if media not in _BUNDLES:
        raise UnsupportedMediaType(
            f"cannot read '{media[:64]}'; send as application/zip what "
            "GET /v1/models/NAME/download?format=bundle gives"
        )
    async with uploads.saved(request) as path:
        if idempotent.has_key:
            digest = await to_thread.run_sync(sha256_of, path)
            await idempotent.replay((name or "").encode(), digest.encode())
        record = idempotent.recorder(version_response)
        await uploads.run(lambda: bundles.add(context, path, name, record))
    return idempotent.response


@router.get("/{ref}")
def get_model(ref: str, context: ContextDep) -> ModelOut:
    """By ``name`` (newest version), ``name@3``, ``name@alias`` or id."""
    with context.database.read() as session:
        row = versions.find(session, ref)
        return ModelOut.of(row, aliases.by_version(session, [row])[row.id])


@router.delete("/{ref}", status_code=204)
def delete_model(ref: str, context: ContextDep) -> None:
    """One version by ``name@3``, ``name@alias`` or id, all of them by ``name``; their aliases go
    too, their numbers stay used."""
    versions.delete(context, ref)


@router.get("/{name}/versions")
def list_model_versions(name: str, context: ContextDep, paging: VersionsDep) -> ModelList:
    """Newest first."""
    with context.database.read() as session:
        page = versions.of_model(session, name, paging)
        return _model_list(session, page)


@router.get("/{ref}/parameters")
def get_model_parameters(
    ref: str, context: ContextDep, predictors: PredictorsDep, paging: AscendingDep
) -> ParametersOut:
    """The parameters in the order of the layers; values up to 10,000 numbers in all, else null."""
    _, predictor = load_version(context, predictors, ref)
    found = [Parameter(id=item["name"], **item) for item in predictor.parameters()]
    data, has_more = page_of(found, paging)
    return ParametersOut.of_page(data, has_more)


@router.get("/{ref}/summary")
def get_model_summary(ref: str, context: ContextDep, predictors: PredictorsDep) -> SummaryOut:
    """Layers, output shapes and parameter counts."""
    row, predictor = load_version(context, predictors, ref)
    return SummaryOut(
        model=row.name,
        version=row.version,
        inputs=predictor.card.inputs,
        layers=[Layer(**item) for item in predictor.summary()],
        parameters=row.parameters,
    )


@router.get("/{ref}/importance")
def get_model_importance(ref: str, context: ContextDep) -> ImportanceOut:
    """How much worse the model is on the test part where a feature's values are shuffled, the
    most important feature first; measured when its job ended."""
    row = _find(context, ref)
    return ImportanceOut(of=row.metrics.get("of"), **effects.importance_of(row).model_dump())


@router.get("/{ref}/effects")
def get_model_effects(
    ref: str,
    feature: str,
    context: ContextDep,
    predictors: PredictorsDep,
    lanes: LanesDep,
    held: HeldDep,
    of: Annotated[
        str | None, Query(description="a class or a target; left out the positive one, the first")
    ] = None,
) -> EffectOut:
    """What the model answers where a feature has one value in every row of the test part, the
    others being as they are: for numbers and dates along their quantiles, for labels one by one."""
    held.enter_context(lanes.plots.place())
    return EffectOut.from_effect(effects.of_version(context, predictors, ref, feature, of))


@router.get("/{ref}/plots/{plot}.{image}", response_class=Response, responses=PICTURE)
async def get_model_plot(
    ref: str,
    plot: ModelPlot,
    image: ImageFormat,
    request: Request,
    context: ContextDep,
    pictures: PicturesDep,
    held: HeldDep,
    predictors: PredictorsDep,
    feature: Annotated[
        str | None, Query(description="of `effects`; left out the most important one")
    ] = None,
    of: Annotated[
        str | None, Query(description="of `effects`: a class or a target, as there")
    ] = None,
) -> Response:
    """``importance`` of the features, or ``effects`` of one of them."""
    return await pictures.response(
        request,
        held,
        image,
        lambda: model_plots.picture(context, predictors, ref, plot, feature, of),
    )


@router.get("/{ref}/download", response_class=Response, responses=MODEL_DOWNLOAD)
async def download_model(
    ref: str,
    request: Request,
    context: ContextDep,
    exports: ExportsDep,
    lanes: LanesDep,
    held: HeldDep,
    format: Literal["safetensors", "bundle", "onnx"] = "safetensors",  # noqa: A002
) -> Response:
    """The weights, with ``bundle`` all that predicting takes as a zip, or with ``onnx`` one ONNX
    file from named columns to predictions; with an ETag and ranges."""
    find = partial(_find, context, ref)
    if format == "onnx":
        return await exports.onnx(request, held, find)
    lane = lanes.downloads
    held.enter_context(lane.place())
    row = await lane.run(find)
    if format == "bundle":
        return await lane.run(partial(bundle_response, request, context, held, row))
    name = f"{row.name}-{row.version}.{format}"
    return await lane.run(
        partial(safetensors_response, request, context, held, "models", row.id, name)
    )
