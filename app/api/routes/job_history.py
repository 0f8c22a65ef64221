"""``/v1/jobs/{id}``: its loss history, its events, and those as they come."""

import csv
import hashlib
import io
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.api.deps import ContextDep, JobStreamsDep, PagingDep, PredictorsDep
from app.api.downloads import TEXT, content_response
from app.api.http.conditions import has_already
from app.api.http.json_route import StrictJSONRoute
from app.api.http.lanes import HeldDep, LanesDep
from app.api.http.media_types import chosen
from app.api.schemas.curves import CurveOut
from app.api.schemas.jobs import EventList, EventOut, MetricsOut, Nonfinite, SeriesOut
from app.errors import InvalidRequest
from app.ml.finite import finite
from app.ml.specs import JobSpec
from app.ml.specs.metrics import CurveKind
from app.services.jobs import curves, events, history, jobs
from app.services.jobs.history import History, series_of

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictJSONRoute)

# ---------------------------------------------------------------- loss history

_FORMATS = {"application/json": "json", "text/csv": "csv"}
_CSV = {"text/csv": TEXT}


@router.get(
    "/{job_id}/metrics",
    response_model=MetricsOut,
    responses={
        200: {"content": _CSV},
        206: {"description": "the range of the CSV that was asked for", "content": _CSV},
        304: {"description": "If-None-Match has the ETag of the CSV"},
    },
)
def get_job_metrics(
    job_id: str,
    request: Request,
    context: ContextDep,
    held: HeldDep,
    names: Annotated[str | None, Query(description="comma-separated; left out: all")] = None,
    after_epoch: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    max_points: Annotated[int | None, Query(ge=2, le=1_000_000)] = None,
    format: Literal["json", "csv"] | None = None,  # noqa: A002
) -> Any:
    """The loss history, also while the job runs; CSV, or ranges of it, by ``format`` or
    ``Accept``."""
    media = chosen(request.headers.get("accept", ""), format, _FORMATS)
    selected = None if names is None else {name.strip() for name in names.split(",")}
    with context.database.read() as session:
        spec = jobs.find(session, job_id).spec
        found = history.read(session, job_id, names=selected, after_epoch=after_epoch)
    _require_series(selected, spec)
    if max_points is not None:
        found = found.downsampled(max_points)
    if media == "text/csv":
        content = _as_csv(found).encode()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Vary": "Accept"}
        if has_already(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return content_response(held, content, media, headers)
    return _as_json(found, spec)


@router.get("/{job_id}/curves/{kind}")
def get_job_curve(
    job_id: str,
    kind: CurveKind,
    context: ContextDep,
    predictors: PredictorsDep,
    lanes: LanesDep,
    held: HeldDep,
) -> CurveOut:
    """What a curve of the job's model is drawn from: ``roc``, ``precision_recall``,
    ``calibration`` and ``threshold`` of a classification, ``residuals`` of a regression."""
    held.enter_context(lanes.plots.place())
    found, part = curves.of_job(context, predictors, job_id, kind)
    return CurveOut.from_curve(kind, found, part)


def _require_series(selected: set[str] | None, spec: JobSpec) -> None:
    """Raise InvalidRequest for the name of a series that this job's history never has."""
    known = series_of(spec)
    if selected is not None and (unknown := sorted(selected - set(known))):
        there = ", ".join(f"'{name}'" for name in known)
        detail = f"unknown series '{unknown[0][:64]}'; this job has {there}"
        raise InvalidRequest.at("/names", detail, "unknown_value")


def _as_json(found: History, spec: JobSpec) -> MetricsOut:
    series = {
        name: SeriesOut(epoch=epochs.tolist(), value=[finite(value) for value in values.tolist()])
        for name, (epochs, values) in found.series.items()
    }
    nonfinite = [Nonfinite(**point._asdict()) for point in found.nonfinite()]
    return MetricsOut(series=series, nonfinite=nonfinite, loss_unit=spec.loss_unit)


def _as_csv(found: History) -> str:
    """Return one line an epoch, one column a series; empty where a series has no point."""
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


# ---------------------------------------------------------------- events


@router.get("/{job_id}/events")
def list_job_events(job_id: str, context: ContextDep, paging: PagingDep) -> EventList:
    """What happened to a job, newest first: changes of its status, every epoch, its end."""
    with context.database.read() as session:
        found, has_more = events.listed(session, job_id, paging)
    data = [EventOut.of(job_id, event) for event in found]
    return EventList.of_page(data, has_more)


@router.get(
    "/{job_id}/stream",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "the job has ended and Last-Event-ID was its last event"},
    },
)
async def stream_job_events(
    job_id: str,
    streams: JobStreamsDep,
    lanes: LanesDep,
    held: HeldDep,
    last_event_id: Annotated[
        str | None, Header(description="go on after this event; left out: from the first")
    ] = None,
) -> Response:
    """The same events as they come, until the job's end, as server-sent events."""
    after = _parse_event_id(last_event_id)
    held.enter_context(lanes.streams.place())
    stream = await held.enter_async_context(streams.follow(job_id, after))
    if stream.complete and after >= stream.last:
        return Response(status_code=204)  # which tells a browser to come back no more
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream.stream(after), media_type="text/event-stream", headers=headers)


def _parse_event_id(header: str | None) -> int:
    if not header:
        return 0
    if not (header.isascii() and header.isdecimal() and len(header) < 16):
        detail = f"Last-Event-ID wants the id of an event, got '{header[:64]}'; leave it out"
        raise InvalidRequest.at("/Last-Event-ID", detail)
    return int(header)
