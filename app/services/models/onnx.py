"""Versions as ONNX files."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from app import __version__
from app.db.models import ModelVersion
from app.executors import exporters
from app.ml.inference import card as cards
from app.ml.inference import onnx_file
from app.ml.inference.card import CARD, WEIGHTS
from app.runtime import artifacts
from app.runtime.context import Context


class Exportable(NamedTuple):
    """A version that can be written as ONNX."""

    folder: Path
    digest: str
    """Hex SHA-256 that changes with what is written."""

    def content(self) -> bytes:
        """Return the file; blocks for seconds. Raises NotApplicable or Unavailable."""
        return exporters.onnx(self.folder)


def of_version(context: Context, row: ModelVersion) -> Exportable:
    """Return what the file of a version is made of.

    Raises NotApplicable where it has none, ArtifactCorrupt, or NotFound where the version has just
    been deleted.
    """
    with artifacts.unless_deleted(context, "models", row.id):
        folder = context.storage.file("models", row.id, WEIGHTS).parent
        context.storage.file("models", row.id, CARD)
        hashes = [context.storage.entry("models", row.id, name)[0] for name in (CARD, WEIGHTS)]
        onnx_file.require_exportable(cards.read(folder))
    identity = "\0".join([*hashes, __version__])
    return Exportable(folder, hashlib.sha256(identity.encode()).hexdigest())
