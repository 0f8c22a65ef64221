"""Which version a reference means, and that version loaded.

Nothing here touches the database once it is warm. The version that a reference means is remembered
until any model changes (``Signals.models_mark``); on a database that others write too, for less
than a second.
"""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.db.models import ModelVersion
from app.errors import Unavailable
from app.runtime.artifacts import unless_deleted
from app.runtime.context import Context
from app.services.models import versions
from app.services.predictions.predictors import Predictors

if TYPE_CHECKING:  # it imports torch, which the server can do without until the first prediction
    from app.ml.inference.predictor import Predictor

_MOST_REFERENCES = 10_000
"""References remembered; all are forgotten when there are more."""
_SHARED_SECONDS = 0.8
"""How long a reference is believed where other processes promote (with a request, below 1 s), and
while the database is away."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model version, ready to predict."""

    id: str
    name: str
    version: int
    predictor: "Predictor"

    @property
    def ref(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class _Resolved:
    """The version that a reference means, as long as ``Signals.models_mark`` is ``mark``, until
    ``expires`` on the monotonic clock, in seconds."""

    id: str
    name: str
    version: int
    mark: int
    expires: float

    def loaded(self, predictor: "Predictor") -> LoadedModel:
        return LoadedModel(self.id, self.name, self.version, predictor)


class ModelResolver:
    """Turns references (``name``, ``name@3``, ``name@alias`` or an id) into loaded models."""

    def __init__(self, context: Context, predictors: Predictors) -> None:
        self._context, self._predictors = context, predictors
        self._resolved: dict[str, _Resolved] = {}
        self._valid_seconds = _SHARED_SECONDS if context.database.shared else float("inf")

    def cached(self, ref: str) -> LoadedModel | None:
        """Return the model that ``ref`` means, waiting for nothing; ``None`` where ``get`` has to
        look."""
        resolved = self._resolved.get(ref)
        if resolved is None or resolved.mark != self._context.signals.models_mark:
            return None
        if resolved.expires < time.monotonic():
            return None
        predictor = self._predictors.cached(resolved.id)
        return None if predictor is None else resolved.loaded(predictor)

    def get(self, ref: str) -> LoadedModel:
        """Return the model that ``ref`` means, loaded now if it was not.

        Blocks. Raises NotFound or ArtifactCorrupt.
        """
        resolved = self._resolve(ref)
        return resolved.loaded(_predictor(self._context, self._predictors, resolved.id))

    def _resolve(self, ref: str) -> _Resolved:
        """Ask the database. The mark is taken before: a change in between is seen next time."""
        mark = self._context.signals.models_mark
        expires = time.monotonic() + self._valid_seconds
        try:
            with self._context.database.read() as session:
                row = versions.find(session, ref)
        except Unavailable:  # nobody promotes anything while the database is away
            known = self._resolved.get(ref)
            if known is None:
                raise
            expires = time.monotonic() + _SHARED_SECONDS  # not every request is to try
            resolved = replace(known, mark=mark, expires=expires)
        else:
            resolved = _Resolved(row.id, row.name, row.version, mark, expires)
        if len(self._resolved) >= _MOST_REFERENCES:
            self._resolved.clear()
        self._resolved[ref] = resolved
        return resolved


def load_version(
    context: Context, predictors: Predictors, ref: str
) -> tuple[ModelVersion, "Predictor"]:
    """Return the row and the model of the version that ``ref`` means, always asking the database.

    Raises NotFound or ArtifactCorrupt.
    """
    with context.database.read() as session:
        row = versions.find(session, ref)
    return row, _predictor(context, predictors, row.id)


def _predictor(context: Context, predictors: Predictors, model_id: str) -> "Predictor":
    with unless_deleted(context, "models", model_id):
        return predictors.get(model_id)
