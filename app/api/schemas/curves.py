"""Curves of a model as the API shows them."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from app.api.schemas.common import Number
from app.ml.column_types.canonical import iso
from app.ml.finite import finite
from app.ml.inference.card import MeasuredBefore
from app.ml.specs.metrics import CurveKind
from app.services.jobs.judged import Part

if TYPE_CHECKING:  # it imports scikit-learn
    from app.ml.evaluation.curves import Curve, Series
    from app.ml.evaluation.effects import Effect


class CurveSeries(BaseModel):
    """One line, or one cloud of points."""

    x: list[float]
    y: list[float]
    threshold: list[Number] | None = Field(
        None, description="from which probability on a row is of the class; null: from none"
    )
    count: list[int] | None = Field(None, description="rows that a point stands for")

    @classmethod
    def of(cls, series: "Series") -> "CurveSeries":
        """Return a series as JSON has it."""
        at, count = series.threshold, series.count
        return cls(
            x=series.x.tolist(),
            y=series.y.tolist(),
            threshold=None if at is None else [finite(value) for value in at.tolist()],
            count=None if count is None else count.tolist(),
        )


class CurveOut(BaseModel):
    """What a curve is drawn from."""

    object: Literal["curve"] = "curve"
    kind: CurveKind
    of: Part | MeasuredBefore = Field(
        description="the part of the split; `before_refit`: the test part, and the model before it "
        "was trained once more, on all rows"
    )
    series: dict[str, CurveSeries] = Field(
        description="by class, label or target; of a threshold by metric"
    )
    x: str = Field(description="what the axis says")
    y: str
    summary: dict[str, Number]

    @classmethod
    def from_curve(cls, kind: CurveKind, curve: "Curve", of: Part | MeasuredBefore) -> "CurveOut":
        """Return a curve of a part as the API shows it."""
        series = {name: CurveSeries.of(found) for name, found in curve.series.items()}
        return cls(kind=kind, of=of, series=series, x=curve.x, y=curve.y, summary=curve.summary)


class EffectOut(BaseModel):
    """What a model makes of one feature."""

    object: Literal["effect"] = "effect"
    feature: str
    of: str = Field(description="the target, or the class whose probability it is")
    values: list[Any] = Field(
        description="in order; null, the last, where the feature is missing in some of the rows"
    )
    mean: list[Number]
    low: list[Number] = Field(description="below which one of ten rows lies")
    high: list[Number] = Field(description="above which one of ten rows lies")
    rows: int

    @classmethod
    def from_effect(cls, effect: "Effect") -> "EffectOut":
        """Return an effect as the API shows it."""
        mean, low, high = (
            [finite(value) for value in values.tolist()]
            for values in (effect.mean, effect.low, effect.high)
        )
        return cls(
            feature=effect.feature,
            of=effect.of,
            values=[
                iso(v) if effect.type == "datetime" and v is not None else v for v in effect.values
            ],
            mean=mean,
            low=low,
            high=high,
            rows=effect.rows,
        )
