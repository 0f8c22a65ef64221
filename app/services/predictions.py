"""Predictions: a bounded cache of loaded models."""

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from app.db.models import ModelVersion
from app.errors import ArtifactCorrupt, InvalidRequest
from app.services import models
from app.services.context import Context
from app.storage import Storage

if TYPE_CHECKING:  # it imports torch, which the server can do without until the first prediction
    from app.ml.predictor import Predictor

_CACHE_BYTES = 512 * 1024 * 1024
INPUTS = ("rows", "columns", "instances")


class Predictors:
    """Loaded models, least recently used out first; ``limit`` bounds the bytes of their weights."""

    def __init__(self, storage: Storage, limit: int = _CACHE_BYTES) -> None:
        self._storage = storage
        self._limit = limit
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()

    def get(self, model_id: str) -> "Predictor":
        """From the cache, or from storage with every hash checked (else ArtifactCorrupt)."""
        with self._lock:
            if model_id in self._loaded:
                self._loaded.move_to_end(model_id)
                return self._loaded[model_id]
        from app.ml.predictor import Predictor

        predictor = Predictor.load(self._storage.verified("models", model_id))
        with self._lock:
            self._loaded[model_id] = predictor
            while len(self._loaded) > 1 and self._bytes() > self._limit:
                self._loaded.popitem(last=False)
        return predictor

    def _bytes(self) -> int:
        return sum(predictor.size_bytes for predictor in self._loaded.values())


def load(context: Context, predictors: Predictors, ref: str) -> tuple[ModelVersion, "Predictor"]:
    """The version that ``ref`` names, ready to predict. Raises NotFound or ArtifactCorrupt."""
    with context.database.read() as session:
        version = models.find(session, ref)
    try:
        return version, predictors.get(version.id)
    except ArtifactCorrupt:
        with context.database.read() as session:
            models.find(session, version.id)  # else it has just been deleted
        raise


def predict(predictor: "Predictor", body: Any, *, probabilities: bool = False) -> dict[str, Any]:
    """Answer one request body with ``rows``, ``columns`` or ``instances``.

    Returns ``{"predictions": [...]}`` and, where asked, ``"probabilities"``. Raises InvalidRequest.
    """
    if not isinstance(body, dict) or sum(key in body for key in INPUTS) != 1:
        raise InvalidRequest.at(
            "",
            'send one object with "rows", "columns" or "instances", '
            'for example {"rows": [{"x": 0.5}]}',
        )
    for key in body:
        if key not in INPUTS:
            raise InvalidRequest.at(f"/{key[:64]}", f"unknown field '{key[:64]}'; leave it out")
    key, value = next(iter(body.items()))
    wanted: Any = dict if key == "columns" else list
    if not isinstance(value, wanted):
        kind = "an object of lists" if key == "columns" else "a list"
        raise InvalidRequest.at(f"/{key}", f'"{key}" wants {kind}')
    if not value or (key == "columns" and not any(value.values())):
        raise InvalidRequest.at(f"/{key}", "there are no rows to predict; send at least one")
    if key == "rows":
        table = predictor.table_of_rows(value)
    elif key == "columns":
        table = predictor.table_of_columns(value)
    else:
        table = predictor.table_of_instances(value)
    outputs = predictor.outputs(table)
    answer = {"predictions": predictor.predictions(outputs)}
    if probabilities:
        answer["probabilities"] = predictor.probabilities(outputs)
    return answer
