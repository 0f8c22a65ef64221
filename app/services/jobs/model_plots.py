"""Gathering what a picture of a model version shows: what it relies on, and what it makes of a
feature. ``app.ml.plots`` draws it, in another process."""

from typing import Literal

import numpy as np

from app.db.models import ModelVersion
from app.errors import InvalidRequest
from app.ml.column_types.canonical import iso
from app.ml.drawing import Drawing, Picture, drawing
from app.ml.features.preprocessing import label
from app.runtime.context import Context
from app.services.jobs import effects
from app.services.models import versions
from app.services.predictions.predictors import Predictors

ModelPlot = Literal["importance", "effects"]

_MOST_FEATURES = 30
"""Bars of an importance; the features that matter less are left out."""


def picture(
    context: Context,
    predictors: Predictors,
    ref: str,
    plot: ModelPlot,
    feature: str | None,
    of: str | None,
) -> Picture:
    """Return one plot of a model version, to be gathered.

    Raises NotFound, NotApplicable where nothing was measured or a feature's effect has no data to
    be looked at on, InvalidRequest where a parameter does not fit the plot; so does gathering it.
    """
    with context.database.read() as session:
        row = versions.find(session, ref)
    if plot == "importance":
        for name, value in (("feature", feature), ("of", of)):
            if value is not None:
                raise InvalidRequest.at(
                    f"/{name}", f"an importance is of all features; leave {name} out"
                )
        return Picture(repr((row.id, plot)), lambda: importance(row))
    if feature is None:
        feature = _first_looked_at(row)
    identity = repr((row.id, plot, feature, of))
    return Picture(identity, lambda: _effect(context, predictors, row, feature, of))


def _first_looked_at(row: ModelVersion) -> str:
    """Return the feature that matters most, texts left out: they have no values to go along."""
    texts = {feature["name"] for feature in row.features if feature["type"] == "text"}
    ranked = [item.feature for item in effects.importance_of(row).features]
    return next((name for name in ranked if name not in texts), row.features[0]["name"])


def importance(row: ModelVersion) -> Drawing:
    """Return the bars of a version's importance. Raises NotApplicable where it was not measured."""
    found = effects.importance_of(row)
    first = found.features[:_MOST_FEATURES]
    some = (
        f", the first {len(first)} of {len(found.features):,}"
        if len(first) < len(found.features)
        else ""
    )
    return drawing(
        "importance",
        [item.feature for item in first],
        np.array([item.mean for item in first]),
        np.array([item.std for item in first]),
        f"{row.name}@{row.version}: what the model relies on{some}",
        f"rise of {found.metric} where the feature is shuffled, {found.rows:,} rows",
    )


def _effect(
    context: Context, predictors: Predictors, row: ModelVersion, feature: str, of: str | None
) -> Drawing:
    found = effects.of_version(context, predictors, row.id, feature, of)
    labels: list[str] = []
    along, missing = found.values, None
    if found.type in ("datetime", "number") and along[-1] is None:  # a gap has no place on the axis
        along, missing = along[:-1], float(found.mean[-1])
    if found.type == "datetime":
        places = np.array([str(iso(value)).removesuffix("Z") for value in along], "datetime64[us]")
    elif found.type == "number":
        places = np.array(along, dtype=np.float64)
    else:
        labels = ["missing" if value is None else label(value) for value in along]
        places = np.arange(len(labels), dtype=np.float64)
    shown = slice(len(along))
    answer = found.of if row.task == "regression" else f"probability of {found.of}"
    return drawing(
        "effect",
        places,
        labels,
        found.mean[shown],
        (found.low[shown], found.high[shown]),
        missing,
        f"{row.name}@{row.version}: {found.of} by {feature}, {found.rows:,} rows",
        feature,
        answer,
    )
