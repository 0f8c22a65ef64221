"""``/v1/jobs``: create, list, get, cancel, pause, resume and delete; and how the rows are split."""

from contextlib import nullcontext
from functools import partial
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response

from app.api.deps import ContextDep, JobsDep, JobStreamsDep, RowWindowDep
from app.api.http.idempotency import IdempotentRequestDep, canonical_json
from app.api.http.json_route import StrictJSONRoute
from app.api.http.lanes import Lane, LanesDep
from app.api.http.responses import json_response
from app.api.http.waiting import parse_wait, preferred_wait
from app.api.job_streams import JobStreams
from app.api.schemas.common import RowsOut
from app.api.schemas.jobs import JobList, JobOut, PlanOut, SplitOut
from app.db.models import TERMINAL, JobStatus
from app.ml.specs import JobRequest
from app.runtime.context import Context
from app.services.jobs import jobs, positions, splits, submission
from app.services.jobs.queue import Verb
from app.services.jobs.submission import QueuedJob

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictJSONRoute)

_VERB: dict[str, Any] = {
    "status_code": 202,
    "responses": {200: {"model": JobOut}, 202: {"model": JobOut}},
    "response_model": None,
}


@router.post(
    "",
    status_code=202,
    responses={200: {"model": PlanOut}, 201: {"model": JobOut}, 202: {"model": JobOut}},
    response_model=None,
)
async def create_job(
    body: JobRequest,
    request: Request,
    context: ContextDep,
    streams: JobStreamsDep,
    lanes: LanesDep,
    idempotent: IdempotentRequestDep,
    dry_run: bool = False,
    prefer: Annotated[str | None, Header(description="wait=N waits for the end")] = None,
) -> Response:
    """Queue a training job; ``dry_run`` only checks it and fills it in."""
    if dry_run:
        return json_response(
            PlanOut.of(await to_thread.run_sync(submission.dry_run, context, body)), 200
        )
    seconds = preferred_wait(prefer)
    if idempotent.has_key:
        await idempotent.replay(canonical_json(await request.json()))
    with lanes.waits.place() if seconds else nullcontext():  # before anything is made
        job = await to_thread.run_sync(
            submission.create, context, body, idempotent.recorder(_created_response)
        )
        if not seconds:
            return idempotent.response
        out = await _wait_for_end(context, streams, lanes.waits, job.id, seconds)
    applied = {"Preference-Applied": f"wait={seconds:g}"}
    if out.status not in TERMINAL:
        return _job_response(out, headers=applied)
    headers = {"Location": f"/v1/jobs/{job.id}", **applied}
    return await idempotent.replace(json_response(out, 201, headers))


def _created_response(_session: Any, created: QueuedJob) -> Response:
    return _job_response(JobOut.of(*created))


def _job_response(
    job: JobOut, status: int = 202, headers: dict[str, str] | None = None
) -> Response:
    """Return the job, which goes on by itself, with where to look for it, and when."""
    where = {"Location": f"/v1/jobs/{job.id}", "Retry-After": "1"}
    return json_response(job, status, {**where, **(headers or {})})


async def _wait_for_end(
    context: Context, streams: JobStreams, lane: Lane, job_id: str, seconds: float
) -> JobOut:
    """Return the job when it has ended, or after so many seconds. No database connection is held
    meanwhile, and when many wait for the same end they are answered one after the other."""
    async with streams.follow(job_id) as stream:
        await stream.wait_for_end(seconds)
    return await lane.run(partial(_read, context, job_id))


def _read(context: Context, job_id: str) -> JobOut:
    with context.database.read() as session:
        job = jobs.find(session, job_id)
        return JobOut.of(job, positions.position(session, job))


@router.get("")
def list_jobs(
    context: ContextDep,
    paging: JobsDep,
    status: JobStatus | None = None,
    dataset: Annotated[str | None, Query(description="id or name")] = None,
    model: Annotated[str | None, Query(description="name of the model they register")] = None,
) -> JobList:
    """Newest first."""
    with context.database.read() as session:
        page = jobs.listed(session, paging, status, dataset, model)
        places = positions.positions(session, page.rows)
    data = [JobOut.of(row, places.get(row.id)) for row in page.rows]
    return JobList.of_page(data, page.has_more)


@router.get("/{job_id}")
async def get_job(
    job_id: str,
    response: Response,
    context: ContextDep,
    streams: JobStreamsDep,
    lanes: LanesDep,
    wait: Annotated[
        str | None, Query(description="seconds to wait for the end; at most 60")
    ] = None,
    prefer: Annotated[str | None, Header(description="wait=N is the same")] = None,
) -> JobOut:
    """One job; ``wait=N`` answers when it has ended, or after N seconds."""
    seconds = preferred_wait(prefer) if wait is None else parse_wait(wait, "/wait")
    if not seconds:
        return await to_thread.run_sync(_read, context, job_id)
    response.headers["Preference-Applied"] = f"wait={seconds:g}"
    with lanes.waits.place():
        out = await lanes.waits.run(partial(_read, context, job_id))
        if out.status in TERMINAL:
            return out
        return await _wait_for_end(context, streams, lanes.waits, job_id, seconds)


def _apply(context: Context, job_id: str, verb: Verb) -> Response:
    job, changed = jobs.transition(context, job_id, verb)
    with context.database.read() as session:
        place = positions.position(session, job)
    return _job_response(JobOut.of(job, place), 202 if changed else 200)


@router.post("/{job_id}/cancel", **_VERB)
def cancel_job(job_id: str, context: ContextDep) -> Response:
    """Ask for the end of a job; 200 where that was asked for already."""
    return _apply(context, job_id, "cancel")


@router.post("/{job_id}/pause", **_VERB)
def pause_job(job_id: str, context: ContextDep) -> Response:
    """Let a job rest, its process ended and a checkpoint kept; 200 where it does or will."""
    return _apply(context, job_id, "pause")


@router.post("/{job_id}/resume", **_VERB)
def resume_job(job_id: str, context: ContextDep) -> Response:
    """Put a paused job back into the queue; it goes on where it was, bit for bit."""
    return _apply(context, job_id, "resume")


@router.delete("/{job_id}", status_code=204)
def delete_job(job_id: str, context: ContextDep) -> None:
    """Forget a job that has ended or is paused; its model stays."""
    jobs.delete(context, job_id)


# ---------------------------------------------------------------- split


@router.get("/{job_id}/split")
def get_job_split(job_id: str, context: ContextDep) -> SplitOut:
    """How many rows each part has."""
    with context.database.read() as session:
        return SplitOut(**jobs.find(session, job_id).split)


@router.get("/{job_id}/split/{part}")
def get_job_split_part(
    job_id: str,
    part: Literal["train", "validation", "test"],
    window: RowWindowDep,
    context: ContextDep,
) -> RowsOut:
    """The row numbers of one part, in the order in which they are used."""
    with context.database.read() as session:
        job = jobs.find(session, job_id)
    rows = splits.rows_of_part(context, job, part)
    chosen = rows[window.offset : window.offset + window.limit]
    return RowsOut(offset=window.offset, total=len(rows), rows=chosen)
