"""What a model version makes of one feature, on the rows that its job is judged on."""

from typing import TYPE_CHECKING

from app.db.models import Job
from app.errors import NotApplicable
from app.runtime.context import Context
from app.services.datasets import datasets
from app.services.jobs import judged
from app.services.models import versions
from app.services.predictions.predictors import Predictors

if TYPE_CHECKING:  # it imports scikit-learn
    from app.ml.evaluation.effects import Effect


def of_version(
    context: Context, predictors: Predictors, ref: str, feature: str, of: str | None
) -> "Effect":
    """Return the effect of a feature on the answers of the version that ``ref`` means.

    Raises NotFound, NotApplicable where its job or its dataset is not here, and what
    ``ml.evaluation.effects.effect`` raises.
    """
    from app.ml.evaluation import effects

    with context.database.read() as session:
        row = versions.find(session, ref)
        job = session.get(Job, row.job_id)
    if job is None:
        raise NotApplicable(
            f"'{row.name}@{row.version}' came without the rows that this is looked at on: its job "
            "is another server's, or was deleted"
        )
    datasets.file_of(context, job.dataset_id)
    table, split = judged.table_and_split(context, job)
    rows = table.take(judged.rows_of(split)[1])
    return effects.effect(predictors.get(row.id), rows, feature, of)
