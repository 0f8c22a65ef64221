"""Models taken along: a version as a bundle, and a bundle as the next version of a model here."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from app.db.models import ModelVersion
from app.ids import new_id, refuse_id_as_name
from app.ml.inference import bundle
from app.ml.inference import card as cards
from app.ml.inference.bundle import About, Bundle, Measured, SplitCounts
from app.ml.inference.card import WEIGHTS
from app.runtime import artifacts
from app.runtime.context import Context
from app.services.models import versions
from app.services.models.versions import Origin, Result

OnCreate = Callable[[Session, ModelVersion], None]
"""Called with a new version, in the transaction that makes it."""


def of_version(context: Context, row: ModelVersion) -> Bundle:
    """Return the bundle of a version, to be written.

    Raises ArtifactCorrupt, or NotFound where the version has just been deleted.
    """
    with artifacts.unless_deleted(context, "models", row.id):
        folder = context.storage.file("models", row.id, WEIGHTS).parent
        context.storage.file("models", row.id, cards.CARD)
        sha256 = context.storage.entry("models", row.id, WEIGHTS)[0]
        about = About(
            name=row.name,
            version=row.version,
            created_at=row.created_at,
            dataset=bundle.Dataset(id=row.dataset_id, sha256=row.dataset_sha256),
            split=row.lineage["split"] and SplitCounts.model_validate(row.lineage["split"]),
            metrics=Measured.model_validate(row.metrics),
            metadata=row.metadata_,
            importance=row.lineage.get("importance"),
        )
        return Bundle(about, folder, sha256)


def add(context: Context, path: Path, name: str | None, on_create: OnCreate) -> ModelVersion:
    """Make the bundle at ``path`` the next version of ``name``, by default of the name it had.

    Raises InvalidData where it is none or damaged, InvalidRequest (a name that looks like an id),
    StorageFull or Unavailable. Nothing stays of what fails.
    """
    if name is not None:
        refuse_id_as_name(name, "/name")
    context.require_room()
    model_id = new_id("mdl")
    with context.storage.publish("models", model_id) as draft:
        about, card = bundle.unpack(path, draft, context.settings.max_upload_bytes)
        bundle.require_prediction(draft, card)
        parameters = cards.parameters(draft, card)
    result = Result(
        id=model_id,
        features=card.described_features,
        metrics=about.metrics.model_dump(mode="json"),
        parameters=parameters,
        versions=card.versions,
        decision=card.decision,
        coverage=card.coverage,
        trained_on=card.trained_on,
        importance=about.importance,
    )
    dataset, split = about.dataset, about.split.model_dump() if about.split else None
    origin = Origin(card.spec, dataset.id, dataset.sha256, split, about.metadata)
    with (
        context.signals.models_changing(),
        artifacts.recorded(context, "models", model_id) as session,
    ):
        version = versions.register(session, origin, name or about.name, result)
        on_create(session, version)
    return version
