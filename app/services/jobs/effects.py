"""What a model version relies on, and what it makes of one feature, on the rows that its job is
judged on."""

from typing import TYPE_CHECKING

from app.db.models import Job, ModelVersion
from app.errors import NotApplicable
from app.ml.inference.explanations import Importance
from app.runtime.context import Context
from app.services.jobs import judged
from app.services.models import versions
from app.services.predictions.predictors import Predictors

if TYPE_CHECKING:  # it imports scikit-learn
    from app.ml.evaluation.effects import Effect


def importance_of(row: ModelVersion) -> Importance:
    """Return what was measured when its job ended. Raises NotApplicable where nothing was."""
    if (found := row.lineage.get("importance")) is None:
        raise NotApplicable(
            f"'{row.name}@{row.version}' was not measured: a promoted checkpoint, a version of an "
            "older fitserve, or one whose errors are not defined; train it again"
        )
    return Importance.model_validate(found)


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
            "is another server's, or was deleted; evaluate it on a dataset of yours"
        )
    judged.require_dataset(context, job)
    table, split = judged.table_and_split(context, job)
    rows = table.take(judged.rows_of(split)[1])
    return effects.effect(predictors.get(row.id), rows, feature, of)
