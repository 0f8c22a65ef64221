"""What a model makes of one feature: its answer where that feature has one value in every row, the
others being as they are (partial dependence, Friedman, 2001; by row Goldstein et al., 2015)."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.errors import InvalidRequest, NotApplicable
from app.ml.column_types.arrays import Floats
from app.ml.column_types.canonical import TypeName
from app.ml.evaluation import metrics
from app.ml.features.preprocessing import ClassTarget, label
from app.ml.inference.predictor import Predictor
from app.names import unknown

_MOST_VALUES = 20
_MOST_ROWS = 500
_LOW, _HIGH = 0.1, 0.9


class Effect(NamedTuple):
    """Answers by value, ``(values,)`` each: their mean over rows, and between which eight of ten
    lie."""

    feature: str
    type: TypeName
    of: str
    """What is answered: the target, or a class of which it is the probability."""
    values: list[Any]
    """The last is ``None`` where the feature is missing in some of the rows."""
    mean: Floats
    low: Floats
    high: Floats
    rows: int


def effect(predictor: Predictor, table: pa.Table, feature: str, of: str | None) -> Effect:
    """Return the effect of a feature on rows with all features.

    ``of`` is one of several targets, or a class; left out the first, or the positive or likeliest
    one. Raises InvalidRequest where there is no such feature, target or class, NotApplicable for a
    text.
    """
    types = predictor.types
    if feature not in types:
        raise InvalidRequest.at(
            "/feature", unknown("feature", feature, list(types)), "unknown_column"
        )
    if types[feature] == "text":
        raise NotApplicable("a text has no values to go along; look at another feature")
    places = np.linspace(0, table.num_rows - 1, min(table.num_rows, _MOST_ROWS)).astype(np.int64)
    rows = table.select(list(types)).take(pa.array(np.unique(places)))
    values = _values(rows[feature], types[feature])
    place = rows.column_names.index(feature)
    column = rows[feature]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    answers = []
    chosen, name = None, ""
    for value in values:
        constant = pa.array([value] * rows.num_rows, kind)
        outputs = predictor.outputs(rows.set_column(place, feature, constant))
        said = metrics.answers_of(predictor.target, outputs)
        if chosen is None:
            chosen, name = _chosen(predictor, said, of)
        answers.append(said[:, chosen])
    found = np.array(answers)
    return Effect(
        feature=feature,
        type=types[feature],
        of=name,
        values=values,
        mean=found.mean(axis=1),
        low=np.quantile(found, _LOW, axis=1),
        high=np.quantile(found, _HIGH, axis=1),
        rows=rows.num_rows,
    )


def _values(column: pa.ChunkedArray, kind: str) -> list[Any]:
    """Return some values of a column in order: quantiles, or the most frequent labels; behind them
    ``None`` where there are gaps."""
    gap = [None] if column.null_count else []
    present = column.drop_null()
    if not len(present):
        raise NotApplicable("this feature has no value in these rows")
    if kind in ("category", "boolean"):
        counted = sorted(
            present.value_counts().to_pylist(), key=lambda item: (-item["counts"], item["values"])
        )
        return sorted(item["values"] for item in counted[:_MOST_VALUES]) + gap
    ordered = present.take(pc.sort_indices(present))
    places = np.linspace(0, len(ordered) - 1, _MOST_VALUES).round().astype(np.int64)
    return [*dict.fromkeys(ordered.take(pa.array(places)).to_pylist()), *gap]


def _chosen(predictor: Predictor, said: Floats, of: str | None) -> tuple[int, str]:
    """Return place and name of the target or class that is looked at."""
    target = predictor.target
    names = target.names
    if isinstance(target, ClassTarget):
        names = [label(value) for value in target.classes]
    if of is not None:
        if of not in names:
            what = "class" if isinstance(target, ClassTarget) else "target"
            raise InvalidRequest.at("/of", unknown(what, of, names))
        return names.index(of), of
    place = 0
    if isinstance(target, ClassTarget):
        likeliest = int(said.mean(axis=0).argmax())
        place = likeliest if target.positive is None else target.positive
    return place, names[place]
