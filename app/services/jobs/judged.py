"""A job's model, and the rows that it is judged on."""

from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import TERMINAL, Dataset, Job, ModelVersion
from app.errors import NotApplicable, NotFound, NotReady
from app.ml.data.splits import Indices, Split
from app.runtime.context import Context
from app.services.datasets import datasets
from app.services.jobs import splits
from app.services.predictions.predictors import Predictors

if TYPE_CHECKING:
    from app.ml.inference.predictor import Predictor

Part = Literal["test", "validation", "train"]


class Judged(NamedTuple):
    """A model beside rows whose targets are known."""

    predictor: "Predictor"
    rows: pa.Table
    """Features and targets."""
    part: Part
    """Which part of the split they are: the test part, or what stands in for it."""


def of(context: Context, predictors: Predictors, job: Job) -> Judged:
    """Return the job's model and rows. Raises NotReady before there is a model, NotApplicable
    where there never will be one, NotFound where the dataset was deleted."""
    predictor = model_of(context, predictors, job)
    table, split = table_and_split(context, job)
    part, rows = rows_of(split)
    return Judged(predictor, table.take(rows), part)


def model_of(context: Context, predictors: Predictors, job: Job) -> "Predictor":
    """Return the job's model, as it was measured: none of its rows are held out from a refit.

    Raises NotReady, or NotApplicable where there never will be one."""
    return predictors.get(version_of(context, job).id, measured=job.spec.refit)


def version_of(context: Context, job: Job) -> ModelVersion:
    """Return the version that the job ended with. Raises NotReady, or NotApplicable where there
    never will be one."""
    with context.database.read() as session:
        found = model_id(session, job)
        row = None if found is None else session.get(ModelVersion, found)
    if row is None:
        raise _no_model(job)
    return row


def _no_model(job: Job) -> NotApplicable | NotReady:
    if job.status == "succeeded":
        return NotApplicable(
            "the model of this job was deleted; promote one of its checkpoints, or train again"
        )
    if job.status in TERMINAL:
        return NotApplicable(
            f"a job that is {job.status} has no model; promote one of its checkpoints, or train "
            "again"
        )
    return NotReady(f"a job that is {job.status} has no model yet; it comes when the job succeeds")


def require_dataset(context: Context, job: Job) -> None:
    """Raise NotFound where the job's dataset was deleted, ArtifactCorrupt where it is damaged."""
    with context.database.read() as session:
        gone = session.get(Dataset, job.dataset_id) is None
    if gone:
        name = f"'{job.dataset_name}'" if job.dataset_name else f"'{job.dataset_id}'"
        raise NotFound(
            f"the dataset {name} that this was trained on has been deleted, and its rows with it; "
            "evaluate the model on another dataset"
        )
    datasets.file_of(context, job.dataset_id)


def model_id(session: Session, job: Job) -> str | None:
    """Return the id of the version that the job ended with, if there is one."""
    result = ModelVersion.job_id == job.id, ModelVersion.checkpoint_id.is_(None)
    return session.scalars(select(ModelVersion.id).where(*result)).one_or_none()


def table_and_split(context: Context, job: Job) -> tuple[pa.Table, Split]:
    """Return the job's features and targets, and the rows of each part."""
    split, spec = splits.of(context, job), job.spec
    with context.database.read() as session:
        dataset = datasets.find(session, job.dataset_id)
    return datasets.read_columns(context, dataset, [*spec.features, *spec.targets]), split


def rows_of(split: Split) -> tuple[Part, Indices]:
    """Return the rows of the test part, or of what stands in for it where there is none."""
    parts: tuple[Part, ...] = ("test", "validation", "train")
    for part in parts:
        if len(rows := getattr(split, part)):
            return part, rows
    raise NotApplicable("the split has no rows")
