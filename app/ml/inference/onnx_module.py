"""The whole way from columns to predictions as one module, for ``onnx_file`` to export: what the
predictor does with numpy and Arrow, in tensors alone, to the same bits but for the order of sums.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from app.ml.column_types.categories import FIRST_CODE, MISSING_CODE, UNKNOWN_CODE, CategoryFeature
from app.ml.column_types.datetimes import DAY_MICROSECONDS, DatetimeFeature
from app.ml.column_types.numbers import NumberFeature
from app.ml.features.encoder import Feature
from app.ml.features.preprocessing import LARGEST_LOG, ClassTarget, LabelTargets, NumberTargets
from app.ml.inference.card import Card

UNSEEN, MISSING = -1, -2
"""Places of labels that are none of the training part's."""
NAT = torch.iinfo(torch.int64).min
"""A missing moment, as numpy's NaT is stored."""


class ColumnsToPredictions(nn.Module):
    """A tensor ``(rows,)`` for each feature in, predictions out.

    Numbers and booleans are float64 with NaN where they are missing; categories int64, places among
    the labels, or ``UNSEEN`` or ``MISSING``; datetimes int64 microseconds since 1970 in UTC, or
    ``NAT``. There is one output ``(rows,)`` for each target: float64 of numbers, of one class its
    place, bool of several booleans. Behind them stand the probabilities ``(rows, labels)``, if any.

    Features of a kind are computed together: the exporter takes 30 ms for every operation.
    """

    def __init__(self, card: Card, module: nn.Module) -> None:
        super().__init__()
        encoder = card.preprocessing.features
        placed = [*zip(encoder.features, (first for first, _ in encoder.places()), strict=True)]
        kinds: dict[type[_Part], list[int]] = {}
        for i, feature in enumerate(encoder.features):
            kinds.setdefault(_part_of(feature), []).append(i)
        self.taken = [*kinds.values()]
        parts = [kind([placed[i] for i in taken]) for kind, taken in kinds.items()]
        self.parts = nn.ModuleList(parts)
        self.order: Tensor  # of the matrix's columns, among those that the parts give
        self.register_buffer("order", torch.tensor([at for p in parts for at in p.at]).argsort())
        self.module = module
        target = card.preprocessing.target
        self.answer: nn.Module = (
            _Numbers(target) if isinstance(target, NumberTargets) else _Labels(target)
        )

    def forward(self, columns: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the predictions of ``columns``, in the order of the features."""
        pieces = [
            part(_beside([columns[i] for i in taken]))
            for part, taken in zip(self.parts, self.taken, strict=True)
        ]
        x = torch.cat(pieces, 1)[:, self.order]
        answers: tuple[Tensor, ...] = self.answer(self.module(x))
        return answers


def _beside(columns: list[Tensor]) -> Tensor:
    """Return columns ``(rows,)`` as ``(rows, columns)``."""
    return torch.cat(columns).reshape(len(columns), -1).T


# ---------------------------------------------------------------- features


class _Part(nn.Module):
    """Features of a kind, each given with the first of its columns of the matrix: ``(rows,
    features)`` to ``(rows, columns)``, which stand ``at`` these columns of the matrix."""

    at: list[int]

    def hold(self, **values: list[Any]) -> None:
        """Keep lists as tensors, of floats float64, else int64."""
        for name, found in values.items():
            kind = torch.float64 if found and isinstance(found[0], float) else torch.int64
            self.register_buffer(name, torch.tensor(found, dtype=kind))


class _Scaled(_Part):
    """Numbers and booleans; missing ones filled, and marked where there were some in training."""

    fill: Tensor
    center: Tensor
    scale: Tensor
    marked: Tensor

    def __init__(self, features: list[tuple[Any, int]]) -> None:
        super().__init__()
        marked = [i for i, (feature, _) in enumerate(features) if feature.indicator]
        self.at = [first for _, first in features] + [features[i][1] + 1 for i in marked]
        self.hold(
            fill=[feature.fill for feature, _ in features],
            center=[getattr(feature, "center", 0.0) for feature, _ in features],
            scale=[getattr(feature, "scale", 1.0) for feature, _ in features],
            marked=marked,
        )

    def forward(self, columns: Tensor) -> Tensor:
        missing = columns.isnan()
        values = (self.bent(torch.where(missing, self.fill, columns)) - self.center) / self.scale
        return torch.cat([values.float(), missing[:, self.marked].float()], 1)

    def bent(self, values: Tensor) -> Tensor:
        """Return what is scaled of values ``(rows, features)``."""
        return values


class _Quantiles(_Scaled):
    """Numbers whose places among quantiles are scaled: each goes through ``numpy.interp``."""

    def __init__(self, features: list[tuple[Any, int]]) -> None:
        super().__init__(features)
        self.count = len(features)
        for i, (feature, _) in enumerate(features):
            pairs = zip(pairwise(feature.knots), pairwise(feature.scores), strict=True)
            slopes = [(d - c) / (b - a) for (a, b), (c, d) in pairs] or [0.0]
            self.hold(
                **{f"knots{i}": feature.knots, f"scores{i}": feature.scores, f"slopes{i}": slopes}
            )

    def bent(self, values: Tensor) -> Tensor:
        return _beside([self._interpolated(i, values[:, i]) for i in range(self.count)])

    def _interpolated(self, i: int, values: Tensor) -> Tensor:
        knots, scores, slopes = (
            self.get_buffer(f"{name}{i}") for name in ("knots", "scores", "slopes")
        )
        place = ((values[:, None] >= knots).long().sum(1) - 1).clamp(0, len(slopes) - 1)
        within = slopes[place] * (values - knots[place]) + scores[place]
        within = torch.where(values >= knots[-1], scores[-1], within)
        return torch.where(values <= knots[0], scores[0], within)


class _Marks(_Part):
    """Categories, a column for each label and one for what is missing, if there was any."""

    owner: Tensor
    """The feature that a column is of."""
    place: Tensor
    """The place among its labels that it marks."""

    def __init__(self, features: list[tuple[Any, int]]) -> None:
        super().__init__()
        self.at = [first + i for feature, first in features for i in range(feature.width)]
        marks = [[*range(len(f.categories)), *([MISSING] * f.indicator)] for f, _ in features]
        self.hold(
            owner=[i for i, places in enumerate(marks) for _ in places],
            place=[place for places in marks for place in places],
        )

    def forward(self, columns: Tensor) -> Tensor:
        return (columns[:, self.owner] == self.place).float()


class _Codes(_Part):
    """Categories, each as the code that is looked up in its embedding."""

    def __init__(self, features: list[tuple[Any, int]]) -> None:
        super().__init__()
        self.at = [first for _, first in features]

    def forward(self, columns: Tensor) -> Tensor:
        apart = torch.where(columns == MISSING, MISSING_CODE, UNKNOWN_CODE)
        return torch.where(columns >= 0, columns + FIRST_CODE, apart).float()


class _Moments(_Part):
    """Datetimes from the year 1 on.

    The calendar is Hinnant's (2014, ``civil_from_days``): years begin in March, and everything is
    counted from the year 0, so that no number is below zero.
    """

    center: Tensor
    scale: Tensor
    timed: Tensor
    marked: Tensor
    lengths: Tensor

    def __init__(self, features: list[tuple[Any, int]]) -> None:
        super().__init__()
        timed = [i for i, (feature, _) in enumerate(features) if feature.time]
        marked = [i for i, (feature, _) in enumerate(features) if feature.indicator]
        self.at = [first + place for place in range(7) for _, first in features]
        self.at += [features[i][1] + place for place in (7, 8) for i in timed]
        self.at += [features[i][1] + features[i][0].width - 1 for i in marked]
        self.hold(
            center=[feature.center for feature, _ in features],
            scale=[feature.scale for feature, _ in features],
            timed=timed,
            marked=marked,
            lengths=[31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31],
        )

    def forward(self, columns: Tensor) -> Tensor:
        missing = columns == NAT
        moments = torch.where(missing, 0, columns)
        since = moments + _DAYS_BEFORE_1970 * DAY_MICROSECONDS
        shares = _shares(since // DAY_MICROSECONDS, self.lengths)
        of_day = (since % DAY_MICROSECONDS).double() / DAY_MICROSECONDS
        parts = [(moments.double() / DAY_MICROSECONDS - self.center) / self.scale]
        for share in (*shares, of_day[:, self.timed]):
            angle = share * (2 * math.pi)
            parts += [angle.sin(), angle.cos()]
        gaps = torch.cat([missing] * 7 + [missing[:, self.timed]] * 2, 1)
        values = torch.where(gaps, 0.0, torch.cat(parts, 1)).float()
        return torch.cat([values, missing[:, self.marked].float()], 1)


def _shares(days: Tensor, lengths: Tensor) -> list[Tensor]:
    """Return how much of its year, month and week has passed on each of ``days`` since the first
    of March of the year 0, from 0 to 1; ``lengths`` ``(12,)`` are those of months in days."""
    of_era = days % 146_097  # days of 400 years
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)  # since the first of March
    month = (5 * of_year + 2) // 153  # since March
    of_month = of_year - (153 * month + 2) // 5
    early = month >= 10  # January and February belong to the next year
    year = year + early.long()
    leap = ((year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))).long()
    month = torch.where(early, month - 10, month + 2)
    since_january = torch.where(early, of_year - 306, of_year + 59 + leap)
    length = lengths[month] + leap * (month == 1).long()
    return [
        since_january.double() / (365 + leap).double(),
        of_month.double() / length.double(),
        ((days + _WEEKDAY) % 7).double() / 7,
    ]


_DAYS_BEFORE_1970 = 719_468
"""Since the first of March of the year 0."""
_WEEKDAY = (3 - _DAYS_BEFORE_1970) % 7
"""1970 began on a Thursday."""


def _part_of(feature: Feature) -> type[_Part]:
    match feature:
        case CategoryFeature():
            return _Codes if feature.embedding else _Marks
        case DatetimeFeature():
            return _Moments
        case NumberFeature() if feature.knots is not None:
            return _Quantiles
        case _:
            return _Scaled


# ---------------------------------------------------------------- targets


class _Numbers(nn.Module):
    """Outputs ``(rows, targets)`` to one prediction ``(rows,)`` each."""

    def __init__(self, target: NumberTargets) -> None:
        super().__init__()
        self.link = target.link
        self.scale: Tensor
        self.center: Tensor
        self.register_buffer("scale", torch.tensor(target.scale, dtype=torch.float64))
        self.register_buffer("center", torch.tensor(target.center, dtype=torch.float64))

    def forward(self, outputs: Tensor) -> tuple[Tensor, ...]:
        units = outputs.double()
        if self.link == "log":
            units = units.clamp(max=LARGEST_LOG).exp()
        return (units * self.scale + self.center).unbind(1)


class _Labels(nn.Module):
    """Logits ``(rows, outputs)`` to the place of a class, or a boolean for each target, and the
    probabilities ``(rows, labels)``."""

    def __init__(self, target: ClassTarget | LabelTargets) -> None:
        super().__init__()
        self.temperature = target.temperature
        self.several = isinstance(target, LabelTargets)
        self.positive = target.positive if isinstance(target, ClassTarget) else None
        self.threshold = target.threshold if isinstance(target, ClassTarget) else 0.5

    def forward(self, outputs: Tensor) -> tuple[Tensor, ...]:
        logits = outputs.double() / self.temperature
        if self.several:
            shares = logits.sigmoid()
            return *(shares > 0.5).unbind(1), shares
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        shares = logits.softmax(1)
        if self.positive is None or self.threshold == 0.5:
            return shares.argmax(1), shares
        yes = shares[:, self.positive] >= self.threshold
        return torch.where(yes, self.positive, 1 - self.positive), shares
