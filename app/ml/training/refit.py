"""Training once more, on all rows: the model that was measured is kept beside the one that is not.

What is told of the test part, curves, intervals and importance are of the model before it; no row
is left to measure the other.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.ml.data.splits import PARTS, Split
from app.ml.inference import model_files
from app.ml.inference.card import Card
from app.ml.inference.model_files import StateDict
from app.ml.specs import JobSpec
from app.ml.training.events import TrainEnded

_ENDED = "ended.json"


@dataclass(frozen=True)
class Before:
    """The model before the refit, and what was measured of it."""

    card: Card
    weights: StateDict
    ended: TrainEnded
    seconds: float = 0.0
    """That the job had taken when the refit began."""

    @property
    def refit_ended(self) -> TrainEnded:
        """The end of the refit, which says what was measured before it."""
        return self.ended.model_copy(update={"trained_on": "all"})

    def given_up(self, why: str) -> TrainEnded:
        """Return what is told where the refit came to nothing."""
        warning = (
            f"it was not trained once more on all rows ({why}); the model is the one that was "
            "measured"
        )
        return self.ended.model_copy(update={"warnings": [*self.ended.warnings, warning]})

    @property
    def epochs(self) -> int:
        """How many the refit takes: up to and with the best one."""
        return self.ended.best.epoch + 1 if self.ended.best else 0

    @classmethod
    def find(cls, checkpoint: Path) -> "Before | None":
        """Return what a checkpoint of a refit holds of it; ``None`` where it is of none."""
        if not (checkpoint / _ENDED).exists():
            return None
        card, weights = model_files.before(checkpoint)
        return cls(
            card, weights, TrainEnded.model_validate_json((checkpoint / _ENDED).read_bytes())
        )

    def save_model(self, draft: Path) -> None:
        """Write the model into ``draft``, beside the files of the refitted one."""
        model_files.save(draft, self.card, self.weights, measured=True)

    def save(self, draft: Path) -> None:
        """Write all that ``find`` reads into the draft of a checkpoint."""
        self.save_model(draft)
        (draft / _ENDED).write_text(self.ended.model_dump_json())

    def carried(self, card: Card) -> Card:
        """Return the card of the refitted model with what only held-out rows can tell."""
        target = card.preprocessing.target
        learnt = self.card.preprocessing.target
        if target.kind != "numbers":
            names = {"temperature", "threshold"} & type(target).model_fields.keys()
            target = target.model_copy(update={name: getattr(learnt, name) for name in names})
        fitted = card.preprocessing.model_copy(update={"target": target})
        update = {
            "preprocessing": fitted,
            "conformal": self.card.conformal,
            "baseline": self.card.baseline,
            "trained_on": "all",
        }
        return card.model_copy(update=update)


def all_rows(split: Split) -> Split:
    """Return the split whose training part are the rows of all parts."""
    rows = np.concatenate([getattr(split, part) for part in PARTS])
    return Split(rows, rows[:0], rows[:0])


def spec_of(spec: JobSpec) -> JobSpec:
    """Return what the refit trains by: nothing is held out, so nothing is watched."""
    split = spec.split.model_copy(update={"train": 1.0, "validation": 0.0, "test": 0.0})
    return spec.model_copy(update={"split": split, "early_stopping": None, "select": "loss"})
