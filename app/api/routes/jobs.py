"""``/v1/jobs``."""

import csv
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from app.api.deps import (
    PNG_SVG,
    ContextDep,
    ImageFormat,
    JobStreamsDep,
    PagingDep,
    PredictorsDep,
    RowWindowDep,
    bounded_wait,
    negotiated,
    seconds_to_wait,
)
from app.api.http.bodies import StrictRoute, answer, canonical
from app.api.http.idempotency import IdempotentRequestDep
from app.api.job_streams import JobStreams
from app.api.schemas.schemas import (
    CheckpointList,
    CheckpointOut,
    EventList,
    EventOut,
    JobList,
    JobOut,
    MetricsOut,
    Nonfinite,
    PlanOut,
    RowsOut,
    SeriesOut,
    SplitOut,
)
from app.db.models import TERMINAL
from app.errors import FieldError, InvalidRequest
from app.ml.finite import finite
from app.ml.specs import JobRequest
from app.runtime.context import Context
from app.services.jobs import (
    checkpoints,
    events,
    history,
    jobs,
    plots,
    positions,
    splits,
    submission,
)
from app.services.jobs.history import History
from app.services.jobs.plots import JobPlot
from app.services.jobs.queue import Verb
from app.services.jobs.submission import Placed
from app.storage import Kind, Storage

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

Status = Literal[
    "queued", "running", "cancelling", "pausing", "paused", "succeeded", "failed", "cancelled"
]
_ASKED: dict[str, Any] = {
    "status_code": 202,
    "responses": {200: {"model": JobOut}, 202: {"model": JobOut}},
    "response_model": None,
}
_WEIGHTS = "weights.safetensors"


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
    once: IdempotentRequestDep,
    dry_run: bool = False,
    prefer: Annotated[str | None, Header(description="wait=N waits for the end")] = None,
) -> Response:
    """Queue a training job; ``dry_run`` only checks it and fills it in."""
    if dry_run:
        return answer(PlanOut.of(await to_thread.run_sync(submission.dry_run, context, body)), 200)
    seconds = seconds_to_wait(prefer)
    if once.wanted:
        await once.check(canonical(await request.json()))
    job = await to_thread.run_sync(submission.create, context, body, once.answering(_accepted))
    if not seconds:
        return once.response
    out = await _wait_for_end(context, streams, job.id, seconds)
    if out.status not in TERMINAL:
        return _taken(out)
    applied = {"Location": f"/v1/jobs/{job.id}", "Preference-Applied": f"wait={seconds:g}"}
    return await once.amend(answer(out, 201, applied))


def _accepted(_session: Any, made: Placed) -> Response:
    return _taken(JobOut.of(*made))


def _taken(job: JobOut, status: int = 202) -> Response:
    """The job goes on by itself: where to look, and when."""
    return answer(job, status, {"Location": f"/v1/jobs/{job.id}", "Retry-After": "1"})


async def _wait_for_end(
    context: Context, streams: JobStreams, job_id: str, seconds: float
) -> JobOut:
    """The job, once it has ended or the time is up. No database connection is held meanwhile."""
    out = await to_thread.run_sync(_read, context, job_id)
    if out.status in TERMINAL or not seconds:
        return out
    async with streams.follow(job_id) as stream:
        await stream.ended(seconds)
    return await to_thread.run_sync(_read, context, job_id)


def _read(context: Context, job_id: str) -> JobOut:
    with context.database.read() as session:
        job = jobs.find(session, job_id)
        return JobOut.of(job, positions.position(session, job))


@router.get("")
def list_jobs(
    context: ContextDep,
    paging: PagingDep,
    status: Status | None = None,
    dataset: Annotated[str | None, Query(description="id or name")] = None,
) -> JobList:
    """Newest first."""
    with context.database.read() as session:
        page = jobs.listed(session, paging, status, dataset)
        places = positions.positions(session, page.rows)
    data = [JobOut.of(row, places.get(row.id)) for row in page.rows]
    return JobList.of_page(data, page.has_more)  # type: ignore[no-any-return]


@router.get("/{job_id}")
async def get_job(
    job_id: str,
    context: ContextDep,
    streams: JobStreamsDep,
    wait: Annotated[str | None, Query(description="seconds to wait for the end")] = None,
) -> JobOut:
    """One job; ``wait=N`` answers when it has ended, or after N seconds."""
    seconds = bounded_wait(wait, "/wait") if wait is not None else 0.0
    return await _wait_for_end(context, streams, job_id, seconds)


def _ask(context: Context, job_id: str, verb: Verb) -> Response:
    job, news = jobs.ask(context, job_id, verb)
    with context.database.read() as session:
        place = positions.position(session, job)
    return _taken(JobOut.of(job, place), 202 if news else 200)


@router.post("/{job_id}/cancel", **_ASKED)
def cancel_job(job_id: str, context: ContextDep) -> Response:
    """Ask for the end of a job; 200 where that was asked for already."""
    return _ask(context, job_id, "cancel")


@router.post("/{job_id}/pause", **_ASKED)
def pause_job(job_id: str, context: ContextDep) -> Response:
    """Let a job rest, its process ended and a checkpoint kept; 200 where it does or will."""
    return _ask(context, job_id, "pause")


@router.post("/{job_id}/resume", **_ASKED)
def resume_job(job_id: str, context: ContextDep) -> Response:
    """Put a paused job back into the queue; it goes on where it was, bit for bit."""
    return _ask(context, job_id, "resume")


@router.delete("/{job_id}", status_code=204)
def delete_job(job_id: str, context: ContextDep) -> None:
    """Forget a job that has ended or is paused; its model stays."""
    jobs.delete(context, job_id)


# ---------------------------------------------------------------- split


@router.get("/{job_id}/split")
def get_split(job_id: str, context: ContextDep) -> SplitOut:
    """How many rows each part has."""
    with context.database.read() as session:
        return SplitOut(**jobs.find(session, job_id).split)


@router.get("/{job_id}/split/{part}")
def get_split_part(
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


# ---------------------------------------------------------------- events


@router.get("/{job_id}/events")
def list_events(job_id: str, context: ContextDep, paging: PagingDep) -> EventList:
    """What happened to a job, newest first: changes of its status, every epoch, its end."""
    with context.database.read() as session:
        found, has_more = events.listed(session, job_id, paging)
    data = [EventOut.of(job_id, event) for event in found]
    return EventList.of_page(data, has_more)  # type: ignore[no-any-return]


@router.get(
    "/{job_id}/stream",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "the job has ended and Last-Event-ID was its last event"},
    },
)
async def stream_events(
    job_id: str,
    streams: JobStreamsDep,
    last_event_id: Annotated[
        str | None, Header(description="go on after this event; left out: from the first")
    ] = None,
) -> Response:
    """The same events as they come, until the job's end, as server-sent events."""
    after = _event_number(last_event_id)
    following = AsyncExitStack()
    stream = await following.enter_async_context(streams.follow(job_id, after))
    if stream.over and after >= stream.last:
        await following.aclose()
        return Response(status_code=204)  # which tells a browser to come back no more

    async def sent() -> AsyncIterator[bytes]:
        async with following:
            async for piece in stream.stream(after):
                yield piece

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(sent(), media_type="text/event-stream", headers=headers)


def _event_number(given: str | None) -> int:
    if not given:
        return 0
    if not (given.isascii() and given.isdecimal() and len(given) < 16):
        detail = f"Last-Event-ID wants the id of an event, got '{given[:64]}'; leave it out"
        raise InvalidRequest(detail, [FieldError("/Last-Event-ID", detail)])
    return int(given)


# ---------------------------------------------------------------- history


@router.get(
    "/{job_id}/metrics",
    response_model=MetricsOut,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def get_metrics(
    job_id: str,
    request: Request,
    context: ContextDep,
    names: Annotated[str | None, Query(description="comma-separated; left out: all")] = None,
    after_epoch: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    max_points: Annotated[int | None, Query(ge=2, le=1_000_000)] = None,
) -> Any:
    """The loss history, also while the job runs; ``text/csv`` by ``Accept``."""
    wanted = None if names is None else {name.strip() for name in names.split(",")}
    with context.database.read() as session:
        jobs.find(session, job_id)
        found = history.read(session, job_id, names=wanted, after_epoch=after_epoch)
    if max_points is not None:
        found = found.downsampled(max_points)
    if negotiated(request, "application/json", "text/csv") == "text/csv":
        return Response(_as_csv(found), media_type="text/csv")
    return _as_json(found)


def _as_json(found: History) -> MetricsOut:
    series = {
        name: SeriesOut(epoch=epochs.tolist(), value=[finite(value) for value in values.tolist()])
        for name, (epochs, values) in found.series.items()
    }
    nonfinite = [Nonfinite(**point._asdict()) for point in found.nonfinite()]
    return MetricsOut(series=series, nonfinite=nonfinite)


def _as_csv(found: History) -> str:
    """One line an epoch, one column a series; empty where a series has no point."""
    by_name = {
        name: dict(zip(epochs.tolist(), values.tolist(), strict=True))
        for name, (epochs, values) in found.series.items()
    }
    epochs = sorted({epoch for points in by_name.values() for epoch in points})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *by_name])
    for epoch in epochs:
        writer.writerow([epoch, *(points.get(epoch, "") for points in by_name.values())])
    return text.getvalue()


# ---------------------------------------------------------------- checkpoints and plots


@router.get("/{job_id}/checkpoints")
def list_checkpoints(job_id: str, context: ContextDep) -> CheckpointList:
    """Newest first."""
    with context.database.read() as session:
        jobs.find(session, job_id)
        data = [CheckpointOut.of(row) for row in checkpoints.listed(session, job_id)]
    return CheckpointList.of_page(data)  # type: ignore[no-any-return]


@router.get("/{job_id}/checkpoints/{checkpoint_id}/download", response_class=FileResponse)
def download_checkpoint(
    job_id: str, checkpoint_id: str, request: Request, context: ContextDep
) -> Response:
    """The weights as safetensors."""
    with context.database.read() as session:
        row = checkpoints.find(session, job_id, checkpoint_id)
    return safetensors_file(
        request, context.storage, "checkpoints", row.id, f"{row.id}.safetensors"
    )


def safetensors_file(
    request: Request, storage: Storage, kind: Kind, artifact_id: str, name: str
) -> Response:
    """Weights as a download, hashes checked; the ETag is the hash, ranges are answered."""
    path, sha256, _ = storage.file(kind, artifact_id, _WEIGHTS)
    etag = f'"{sha256}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": etag})
    storage.verified(kind, artifact_id)
    media = "application/octet-stream"
    return FileResponse(path, media_type=media, filename=name, headers={"ETag": etag})


@router.get("/{job_id}/plots/{plot}.{image}", response_class=Response)
def get_plot(
    job_id: str,
    plot: JobPlot,
    image: ImageFormat,
    context: ContextDep,
    predictors: PredictorsDep,
) -> Response:
    """``loss`` while it trains, ``data`` from the start; once it succeeded ``predictions``, and
    ``residuals`` of a regression or ``confusion`` of a classification."""
    return Response(plots.job(context, predictors, job_id, plot, image), media_type=PNG_SVG[image])
