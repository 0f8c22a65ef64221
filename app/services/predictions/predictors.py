"""Loaded models, as many as memory is to hold."""

import threading
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING

from app.storage import Storage

if TYPE_CHECKING:  # it imports torch, which the server can do without until the first prediction
    from app.ml.inference.predictor import Predictor


class Predictors:
    """A cache of loaded models by id, least recently used out first; ``max_bytes`` bounds it.

    A model that is being loaded is loaded once, however many ask for it. The last one loaded stays
    even where it alone is larger than ``max_bytes``.
    """

    def __init__(self, storage: Storage, max_bytes: int) -> None:
        self._storage = storage
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()

    def cached(self, model_id: str) -> "Predictor | None":
        """Return the model if it is loaded; waits for nothing."""
        with self._lock:
            predictor = self._loaded.get(model_id)
            if predictor is not None:
                self._loaded.move_to_end(model_id)
            return predictor

    def get(self, model_id: str, *, measured: bool = False) -> "Predictor":
        """Return the model from the cache, or load it with every hash checked; ``measured``: as it
        was before it was trained once more on all rows.

        Blocks. Raises ArtifactCorrupt.
        """
        key = f"{model_id} measured" if measured else model_id
        predictor = self.cached(key)
        if predictor is not None:
            return predictor
        with self._lock:
            loading = self._loading[key]
        try:
            with loading:
                return self.cached(key) or self._load(key, model_id, measured)
        finally:
            with self._lock:
                self._loading.pop(key, None)

    def _load(self, key: str, model_id: str, measured: bool) -> "Predictor":
        from app.ml.inference.predictor import Predictor

        predictor = Predictor.load(self._storage.verified("models", model_id), measured=measured)
        predictor.rehearse()
        with self._lock:
            self._loaded[key] = predictor
            while len(self._loaded) > 1 and self._size_bytes() > self._max_bytes:
                self._loaded.popitem(last=False)
        return predictor

    def _size_bytes(self) -> int:
        return sum(predictor.size_bytes for predictor in self._loaded.values())
