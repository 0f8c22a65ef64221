"""Curves of a job's model on the rows that it is judged on."""

from typing import TYPE_CHECKING

from app.db.models import Job
from app.ml.inference.card import MeasuredBefore
from app.ml.specs.metrics import CurveKind
from app.runtime.context import Context
from app.services.jobs import jobs, judged
from app.services.jobs.judged import Part
from app.services.predictions.predictors import Predictors

if TYPE_CHECKING:  # it imports scikit-learn
    from app.ml.evaluation.curves import Curve


def of_job(
    context: Context, predictors: Predictors, job_id: str, kind: CurveKind
) -> "tuple[Curve, Part | MeasuredBefore]":
    """Return a curve, and the part of the split that it is of.

    Raises NotFound, also where the dataset was deleted, NotReady before there is a model, and
    NotApplicable where there is no such curve.
    """
    with context.database.read() as session:
        job = jobs.find(session, job_id)
    judged.require_dataset(context, job)
    found, part = of(context, predictors, job, kind)
    return found, "before_refit" if job.spec.refit else part


def of(context: Context, predictors: Predictors, job: Job, kind: CurveKind) -> "tuple[Curve, Part]":
    """Return the same of a job that was found. Raises the same."""
    from app.ml.evaluation import curves

    curves.require(kind, job.spec.task)
    predictor, rows, part = judged.of(context, predictors, job)
    return curves.curve(kind, predictor.target, rows, predictor.outputs(rows)), part
