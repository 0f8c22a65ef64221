"""Checkpoints made model versions: what predicting needs of one is copied, then a row made."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import Checkpoint, Job, ModelVersion
from app.errors import ArtifactCorrupt
from app.ids import new_id, refuse_id_as_name
from app.ml.finite import finite_values
from app.ml.inference import card as cards
from app.ml.inference.card import BEFORE_WEIGHTS, WEIGHTS, Card, TrainedOn
from app.runtime import artifacts
from app.runtime.context import Context
from app.services.jobs import checkpoints, history, jobs
from app.services.models import versions
from app.services.models.versions import Origin, Result

OnCreate = Callable[[Session, ModelVersion], None]
"""Called with a new version, in the transaction that makes it."""


def promote(
    context: Context, job_id: str, checkpoint_id: str, name: str | None, on_create: OnCreate
) -> ModelVersion:
    """Make a job's checkpoint the next version of ``name``, by default of the job's own model.

    The job may be in any state, and stays in it. Raises NotFound, InvalidRequest (a name that looks
    like an id), ArtifactCorrupt, StorageFull or Unavailable.
    """
    if name is not None:
        refuse_id_as_name(name, "/register_as")
    with context.database.read() as session:
        job = jobs.find(session, job_id)
        checkpoint = checkpoints.find(session, job_id, checkpoint_id)
    context.require_room()
    model_id = new_id("mdl")
    card, parameters = _copy(context, job, checkpoint, model_id)
    with (
        context.signals.models_changing(),
        artifacts.recorded(context, "models", model_id) as session,
    ):
        job = jobs.find(session, job_id)
        checkpoints.find(session, job_id, checkpoint_id)  # else it has just been deleted
        result = Result(
            id=model_id,
            features=card.described_features,
            metrics=_metrics(context, session, checkpoint, model_id, card.trained_on),
            parameters=parameters,
            versions=card.versions,
            decision=card.decision,
            coverage=card.coverage,
            trained_on=card.trained_on,
            checkpoint_id=checkpoint_id,
        )
        name = name or job.spec.register_as or job.id
        version = versions.register(session, Origin.of(job), name, result)
        on_create(session, version)
    return version


def _metrics(
    context: Context, session: Session, checkpoint: Checkpoint, model_id: str, rows: TrainedOn
) -> dict[str, Any]:
    """Return what is known of the weights: all that the job measured where it was measured on them,
    else the losses of their epoch; of a refit's, which has no rows to measure, nothing."""
    result = ModelVersion.job_id == checkpoint.job_id, ModelVersion.checkpoint_id.is_(None)
    own = session.scalars(select(ModelVersion).where(*result)).first()
    if own is not None and _were_measured(context, own, model_id):
        return {**own.metrics, "of": None}
    best: dict[str, Any] = {
        "epoch": checkpoint.epoch,
        "by": None,
    }  # nothing chose it but its client
    if rows == "train":
        # of the whole epoch, also where the checkpoint was written in its middle
        best |= finite_values(history.of_epoch(session, checkpoint.job_id, checkpoint.epoch))
    return {"best": best, "test": None, "baseline": None}


def _were_measured(context: Context, own: ModelVersion, model_id: str) -> bool:
    """Return whether the weights of ``model_id`` are those that the metrics of a job's own result
    are of: what it had before its refit, if it has one."""
    with suppress(ArtifactCorrupt):
        measured = BEFORE_WEIGHTS if own.metrics.get("of") else WEIGHTS
        written = context.storage.entry("models", own.id, measured)
        return written == context.storage.entry("models", model_id, WEIGHTS)
    return False


def _copy(context: Context, job: Job, checkpoint: Checkpoint, model_id: str) -> tuple[Card, int]:
    """Publish the checkpoint's card and weights as a model's artifact; return the card and the
    number of parameters.

    Raises ArtifactCorrupt, or NotFound where the checkpoint was deleted meanwhile.
    """
    artifact = artifacts.of_checkpoint(checkpoint, job.status)
    with artifacts.unless_deleted(context, "checkpoints", checkpoint.id):
        try:
            artifacts.copy_as_model(context.storage, artifact, model_id)
            folder = context.storage.path("models", model_id)
            card = cards.read(folder)
            return card, cards.parameters(folder, card)
        except BaseException as error:
            context.storage.remove("models", model_id)
            if not isinstance(error, ArtifactCorrupt):
                raise
            raise ArtifactCorrupt(
                f"{artifact.name} is missing or damaged on disk ({error.detail}); promote another "
                "checkpoint, or restore this one from a backup"
            ) from error
