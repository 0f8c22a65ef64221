"""Which version is which: aliases of models, and checkpoints promoted to versions."""

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from app.api.deps import AscendingDep, ConditionDep, ContextDep
from app.api.http.conditions import has_already
from app.api.http.idempotency import IdempotentRequestDep, canonical_json
from app.api.http.json_route import StrictJSONRoute
from app.api.http.responses import json_response
from app.api.routes.models import version_response
from app.api.schemas.models import (
    AliasList,
    AliasName,
    AliasOut,
    AliasRequest,
    ModelOut,
    PromoteRequest,
)
from app.db.models import Alias
from app.services.jobs import promotions
from app.services.models import aliases

router = APIRouter(prefix="/v1", tags=["models"], route_class=StrictJSONRoute)

_ALIASES = "/models/{name}/aliases"


@router.get(_ALIASES)
def list_aliases(name: str, context: ContextDep, paging: AscendingDep) -> AliasList:
    """Those of one model, by alias."""
    with context.database.read() as session:
        page = aliases.listed(session, name, paging)
    return AliasList.of_page([AliasOut.of(row) for row in page.rows], page.has_more)


@router.get(
    _ALIASES + "/{alias}",
    responses={200: {"model": AliasOut}, 304: {"description": "If-None-Match has its ETag"}},
    response_model=None,
)
def get_alias(name: str, alias: str, request: Request, context: ContextDep) -> Response:
    """Which version it names; the ETag is for ``If-Match``, and 304 where it is known."""
    with context.database.read() as session:
        row = aliases.find(session, name, alias)
    response = _alias_response(row, 200)
    etag = response.headers["ETag"]
    if has_already(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return response


@router.put(
    _ALIASES + "/{alias}",
    responses={200: {"model": AliasOut}, 201: {"model": AliasOut}},
    response_model=None,
)
def put_alias(
    name: str, alias: AliasName, body: AliasRequest, context: ContextDep, condition: ConditionDep
) -> Response:
    """Have it name a version; 201 where it is new. ``If-Match`` with the ETag of what it names now:
    of several who move it at once, one does, and the others are told 412."""
    row, new = aliases.put(context, name, alias, body.version, condition)
    return _alias_response(row, 201 if new else 200)


@router.delete(_ALIASES + "/{alias}", status_code=204)
def delete_alias(name: str, alias: str, context: ContextDep, condition: ConditionDep) -> None:
    """Forget an alias; its version stays."""
    aliases.delete(context, name, alias, condition)


def _alias_response(row: Alias, status: int) -> Response:
    headers = {"ETag": f'"{row.version}"'}
    if status == 201:
        headers["Location"] = f"/v1/models/{row.name}/aliases/{row.alias}"
    return json_response(AliasOut.of(row), status, headers)


@router.post(
    "/jobs/{job_id}/checkpoints/{checkpoint_id}/promote",
    status_code=201,
    responses={201: {"model": ModelOut}},
    response_model=None,
)
async def promote_checkpoint(
    job_id: str,
    checkpoint_id: str,
    context: ContextDep,
    idempotent: IdempotentRequestDep,
    body: PromoteRequest | None = None,
) -> Response:
    """Make a checkpoint a model version, whatever state its job is in."""
    name = body.register_as if body else None
    if idempotent.has_key:
        await idempotent.replay(canonical_json({"register_as": name}))
    await to_thread.run_sync(
        promotions.promote,
        context,
        job_id,
        checkpoint_id,
        name,
        idempotent.recorder(version_response),
    )
    return idempotent.response
