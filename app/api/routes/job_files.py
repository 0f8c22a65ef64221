"""``/v1/jobs/{id}``: checkpoints and plots."""

from fastapi import APIRouter, Request, Response

from app.api.deps import ContextDep, PagingDep, PicturesDep, PredictorsDep
from app.api.downloads import DOWNLOAD, PICTURE, ImageFormat, safetensors_response
from app.api.http.json_route import StrictJSONRoute
from app.api.http.lanes import HeldDep, LanesDep
from app.api.schemas.jobs import CheckpointList, CheckpointOut
from app.services.jobs import checkpoints, jobs, plots
from app.services.jobs.plots import JobPlot

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictJSONRoute)


@router.get("/{job_id}/checkpoints")
def list_checkpoints(job_id: str, context: ContextDep, paging: PagingDep) -> CheckpointList:
    """Newest first."""
    with context.database.read() as session:
        jobs.find(session, job_id)
        page = checkpoints.page_of(session, job_id, paging)
    return CheckpointList.of_page([CheckpointOut.of(row) for row in page.rows], page.has_more)


@router.get(
    "/{job_id}/checkpoints/{checkpoint_id}/download", response_class=Response, responses=DOWNLOAD
)
def download_checkpoint(
    job_id: str,
    checkpoint_id: str,
    request: Request,
    context: ContextDep,
    lanes: LanesDep,
    held: HeldDep,
) -> Response:
    """The weights as safetensors."""
    held.enter_context(lanes.downloads.place())
    with context.database.read() as session:
        row = checkpoints.find(session, job_id, checkpoint_id)
    name = f"{row.id}.safetensors"
    return safetensors_response(request, context, held, "checkpoints", row.id, name)


@router.get("/{job_id}/plots/{plot}.{image}", response_class=Response, responses=PICTURE)
async def get_job_plot(
    job_id: str,
    plot: JobPlot,
    image: ImageFormat,
    request: Request,
    context: ContextDep,
    pictures: PicturesDep,
    held: HeldDep,
    predictors: PredictorsDep,
) -> Response:
    """``loss`` while it trains, ``data`` from the start; once it succeeded ``predictions``, and
    ``residuals`` of a regression, or of a classification ``confusion`` and its curves."""
    return await pictures.response(
        request, held, image, lambda: plots.picture(context, predictors, job_id, plot, image)
    )
