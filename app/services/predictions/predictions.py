"""Predictions: which version a reference means, loaded models, and what is asked of them.

Nothing here touches the database once it is warm. A version that a reference means is remembered
until any model changes (``Signals.models_mark``); on a database that others write too, for at most
a second.
"""

import threading
import time
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from app.db.models import ModelVersion
from app.errors import ArtifactCorrupt, InvalidRequest, TooLarge, Unavailable
from app.ml.features.feature_tables import no_rows
from app.runtime.context import Context
from app.services.models import versions
from app.storage import Storage

if TYPE_CHECKING:  # it imports torch, which the server can do without until the first prediction
    from app.ml.features.encoder import Matrix
    from app.ml.inference.predictor import Predictor

INPUTS = ("rows", "columns", "instances")
_MOST_REFERENCES = 10_000
_MOST_CELLS = 64 * 1024 * 1024
_SHARED_SECONDS = 0.8
"""How long a reference is believed where other processes promote (with a request, below 1 s), and
while the database is away."""


class Predictors:
    """Loaded models, least recently used out first; ``limit`` bounds their bytes.

    One that is being loaded is loaded once, however many ask for it.
    """

    def __init__(self, storage: Storage, limit: int) -> None:
        self._storage = storage
        self._limit = limit
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()

    def warm(self, model_id: str) -> "Predictor | None":
        """From the cache alone."""
        with self._lock:
            predictor = self._loaded.get(model_id)
            if predictor is not None:
                self._loaded.move_to_end(model_id)
            return predictor

    def get(self, model_id: str) -> "Predictor":
        """From the cache, or from storage with every hash checked (else ArtifactCorrupt)."""
        predictor = self.warm(model_id)
        if predictor is not None:
            return predictor
        with self._lock:
            loading = self._loading[model_id]
        try:
            with loading:
                return self.warm(model_id) or self._load(model_id)
        finally:
            with self._lock:
                self._loading.pop(model_id, None)

    def _load(self, model_id: str) -> "Predictor":
        from app.ml.inference.predictor import Predictor

        predictor = Predictor.load(self._storage.verified("models", model_id))
        predictor.rehearse()
        with self._lock:
            self._loaded[model_id] = predictor
            while len(self._loaded) > 1 and self._bytes() > self._limit:
                self._loaded.popitem(last=False)
        return predictor

    def _bytes(self) -> int:
        return sum(predictor.size_bytes for predictor in self._loaded.values())


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The version that a reference means, ready to predict."""

    id: str
    name: str
    version: int
    predictor: "Predictor"

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class _Resolved:
    id: str
    name: str
    version: int
    mark: int
    until: float

    def live(self, predictor: "Predictor") -> LoadedModel:
        return LoadedModel(self.id, self.name, self.version, predictor)


class ModelResolver:
    """From a reference to a model that predicts."""

    def __init__(self, context: Context, predictors: Predictors) -> None:
        self._context, self._predictors = context, predictors
        self._meant: dict[str, _Resolved] = {}
        self._keeps = _SHARED_SECONDS if context.database.shared else float("inf")

    def warm(self, ref: str) -> LoadedModel | None:
        """Without waiting for anything; ``None`` where ``get`` has to look."""
        meant = self._meant.get(ref)
        if meant is None or meant.mark != self._context.signals.models_mark:
            return None
        if meant.until < time.monotonic():
            return None
        predictor = self._predictors.warm(meant.id)
        return None if predictor is None else meant.live(predictor)

    def get(self, ref: str) -> LoadedModel:
        """Blocks. Raises NotFound or ArtifactCorrupt."""
        meant = self._look(ref)
        return meant.live(_loaded(self._context, self._predictors, meant.id))

    def _look(self, ref: str) -> _Resolved:
        """The mark is taken before the database is read: a change in between is seen next time."""
        mark, until = self._context.signals.models_mark, time.monotonic() + self._keeps
        try:
            with self._context.database.read() as session:
                row = versions.find(session, ref)
        except Unavailable:  # nobody promotes anything while the database is away
            known = self._meant.get(ref)
            if known is None:
                raise
            until = time.monotonic() + _SHARED_SECONDS  # not every request is to try
            meant = replace(known, mark=mark, until=until)
        else:
            meant = _Resolved(row.id, row.name, row.version, mark, until)
        if len(self._meant) >= _MOST_REFERENCES:
            self._meant.clear()
        self._meant[ref] = meant
        return meant


def load(context: Context, predictors: Predictors, ref: str) -> tuple[ModelVersion, "Predictor"]:
    """The row and the model that ``ref`` names. Raises NotFound or ArtifactCorrupt."""
    with context.database.read() as session:
        row = versions.find(session, ref)
    return row, _loaded(context, predictors, row.id)


def _loaded(context: Context, predictors: Predictors, model_id: str) -> "Predictor":
    try:
        return predictors.get(model_id)
    except ArtifactCorrupt:
        with context.database.read() as session:
            versions.find(session, model_id)  # else it has just been deleted
        raise


# ---------------------------------------------------------------- JSON requests


def asked(body: Any) -> tuple[str, Any]:
    """``(one of INPUTS, its value)`` of a request's body. Raises InvalidRequest."""
    if type(body) is dict and len(body) == 1:
        key, value = next(iter(body.items()))
        if key in INPUTS and value and type(value) is (dict if key == "columns" else list):
            return key, value
    return _asked_slowly(body)


def _asked_slowly(body: Any) -> tuple[str, Any]:
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
    raise no_rows(f"/{key}")


def matrix(
    predictor: "Predictor", key: str, value: Any, most_rows: int, at: str | None = None
) -> "Matrix":
    """What the model reads of a JSON request, ``(rows, inputs)``; ``at`` is where ``value`` stands
    in it, if not under ``key``.

    Raises InvalidRequest, InvalidData, or TooLarge beyond ``most_rows``.
    """
    at = at or f"/{key}"
    if key != "columns":
        refuse_many(len(value), most_rows, at)
        if len(value) == 1:
            row = value[0]
            x = predictor.row.of_object(row) if key == "rows" else of_instance(predictor, row)
            if x is not None:
                return x
    if key == "rows":
        table = predictor.tables.of_rows(value, at)
    elif key == "columns":
        table = predictor.tables.of_columns(value, at)
        refuse_many(table.num_rows, most_rows, at)
    else:
        table = predictor.tables.of_instances(value, at)
    return encoded(predictor, table, at)


def encoded(predictor: "Predictor", table: pa.Table, at: str) -> "Matrix":
    """What the model reads of a table that came as a whole, where memory has room for it: a short
    string may become a thousand numbers. Raises TooLarge, or InvalidData."""
    width = predictor.card.preprocessing.features.width
    if table.num_rows * width > _MOST_CELLS:
        raise TooLarge.at(
            at,
            f"the model reads {width} numbers of each row, which is too much for more than "
            f"{_MOST_CELLS // width} rows at once; send them in parts, or as a file (CSV, Arrow)",
        )
    return predictor.encode(table)


def of_instance(predictor: "Predictor", row: Any) -> "Matrix | None":
    """One list of values without a table; ``None`` where the table path is to look at it."""
    return predictor.row.of_values(row) if type(row) is list else None


def refuse_many(rows: int, most: int, pointer: str) -> None:
    """Raise TooLarge where a request has more rows than are allowed."""
    if rows > most:
        raise TooLarge.at(
            pointer,
            f"more than {most} rows at once; send them in parts, or raise "
            "FITSERVE_MAX_PREDICT_ROWS",
        )
