"""Between which values the metrics of a model lie (``ml.evaluation.bootstrap``), as it is kept."""

from pydantic import ConfigDict, Field

from app.ml.column_types.fitted import FittedPart


class Range(FittedPart):
    """Both ends of a metric."""

    model_config = ConfigDict(allow_inf_nan=False)

    low: float
    high: float


class Confidence(FittedPart):
    """Between which values each metric lies in a share of the resamples, its ``level``."""

    level: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=1)
    rows: int = Field(ge=1)
    metrics: dict[str, Range]
