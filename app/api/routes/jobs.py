"""``/v1/jobs``."""

import csv
import io
import math
import time
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse

from app.api.bodies import StrictRoute
from app.api.deps import (
    PNG_SVG,
    ContextDep,
    ImageFormat,
    PagingDep,
    PredictorsDep,
    RowWindowDep,
    bounded_wait,
    negotiated,
    seconds_to_wait,
)
from app.api.schemas import (
    CheckpointList,
    CheckpointOut,
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
from app.ml.specs import JobRequest
from app.services import history, jobs, plots, queue
from app.services.context import Context
from app.services.history import History
from app.storage import Kind, Storage

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

Status = Literal[
    "queued", "running", "cancelling", "pausing", "paused", "succeeded", "failed", "cancelled"
]
_LOOK_AGAIN = 1.0
_WEIGHTS = "weights.safetensors"


@router.post(
    "",
    status_code=202,
    responses={200: {"model": PlanOut}, 201: {"model": JobOut}, 202: {"model": JobOut}},
    response_model=None,
)
async def create_job(
    body: JobRequest,
    response: Response,
    context: ContextDep,
    dry_run: bool = False,
    prefer: Annotated[str | None, Header(description="wait=N waits for the end")] = None,
) -> JobOut | PlanOut:
    """Queue a training job; ``dry_run`` only checks it and fills it in."""
    if dry_run:
        response.status_code = 200
        return PlanOut.of(await to_thread.run_sync(jobs.dry_run, context, body))
    seconds = seconds_to_wait(prefer)
    job = await to_thread.run_sync(jobs.create, context, body)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    out = await _wait_for_end(context, job.id, seconds or 0.0)
    if seconds is not None and out.status in TERMINAL:
        response.status_code = 201
        response.headers["Preference-Applied"] = f"wait={seconds:g}"
    else:
        response.headers["Retry-After"] = "1"
    return out


async def _wait_for_end(context: Context, job_id: str, seconds: float) -> JobOut:
    """The job, once it has ended or the time is up. No database connection is held meanwhile."""
    deadline = time.monotonic() + seconds
    with context.signals.subscribe(job_id) as changes:
        while True:
            out = await to_thread.run_sync(_read, context, job_id)
            left = deadline - time.monotonic()
            if out.status in TERMINAL or left <= 0 or context.stopping.is_set():
                return out
            await changes.wait(min(left, _LOOK_AGAIN))


def _read(context: Context, job_id: str) -> JobOut:
    with context.database.read() as session:
        job = jobs.find(session, job_id)
        return JobOut.of(job, queue.position(session, job))


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
        data = [JobOut.of(row, queue.position(session, row)) for row in page.rows]
    return JobList.of_page(data, page.has_more)  # type: ignore[no-any-return]


@router.get("/{job_id}")
async def get_job(
    job_id: str,
    context: ContextDep,
    wait: Annotated[str | None, Query(description="seconds to wait for the end")] = None,
) -> JobOut:
    """One job; ``wait=N`` answers when it has ended, or after N seconds."""
    seconds = bounded_wait(wait, "/wait") if wait is not None else 0.0
    return await _wait_for_end(context, job_id, seconds)


@router.post("/{job_id}/cancel", status_code=202)
def cancel_job(job_id: str, response: Response, context: ContextDep) -> JobOut:
    """Ask for the end of a job; 200 where that was asked for already."""
    with context.database.read() as session:
        before = jobs.find(session, job_id).status
    job = jobs.cancel(context, job_id)
    response.headers["Location"] = f"/v1/jobs/{job_id}"
    response.headers["Retry-After"] = "1"
    if before in ("cancelling", "cancelled"):
        response.status_code = 200
    return JobOut.of(job)


@router.delete("/{job_id}", status_code=204)
def delete_job(job_id: str, context: ContextDep) -> None:
    """Forget a job that has ended; its model stays."""
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
    rows = jobs.split_rows(context, job_id, part)
    chosen = rows[window.offset : window.offset + window.limit]
    return RowsOut(offset=window.offset, total=len(rows), rows=chosen)


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
    series, nonfinite = {}, []
    for name, (epochs, values) in found.series.items():
        numbers = list(zip(epochs.tolist(), values.tolist(), strict=True))
        series[name] = SeriesOut(
            epoch=[epoch for epoch, _ in numbers],
            value=[value if math.isfinite(value) else None for _, value in numbers],
        )
        nonfinite += [
            Nonfinite(epoch=epoch, name=name, kind=_kind(value))
            for epoch, value in numbers
            if not math.isfinite(value)
        ]
    return MetricsOut(series=series, nonfinite=nonfinite)


def _kind(value: float) -> Literal["nan", "inf", "-inf"]:
    if math.isnan(value):
        return "nan"
    return "inf" if value > 0 else "-inf"


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
        data = [CheckpointOut.of(row) for row in jobs.checkpoints(session, job_id)]
    return CheckpointList.of_page(data)  # type: ignore[no-any-return]


@router.get("/{job_id}/checkpoints/{checkpoint_id}/download", response_class=FileResponse)
def download_checkpoint(
    job_id: str, checkpoint_id: str, request: Request, context: ContextDep
) -> Response:
    """The weights as safetensors."""
    with context.database.read() as session:
        row = jobs.checkpoint(session, job_id, checkpoint_id)
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
    plot: Literal["loss", "data", "predictions"],
    image: ImageFormat,
    context: ContextDep,
    predictors: PredictorsDep,
) -> Response:
    """``loss`` while it trains, ``data`` from the start, ``predictions`` once it succeeded."""
    return Response(plots.job(context, predictors, job_id, plot, image), media_type=PNG_SVG[image])
