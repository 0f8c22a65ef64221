"""What the features of a ``FeatureEncoder`` learn from the rows of the training part."""

from collections.abc import Collection, Sequence

import pyarrow as pa

from app.ml.column_types.canonical import column_type
from app.ml.column_types.registry import COLUMN_TYPES
from app.ml.features.encoder import Feature, FeatureEncoder
from app.ml.specs import PreprocessingSpec


def fit_features(
    names: Sequence[str],
    spec: PreprocessingSpec,
    train: pa.Table,
    texts: Collection[str] = (),
    folded: Collection[str] = (),
) -> FeatureEncoder:
    """Learn the statistics of the columns ``names`` from the rows of the training part; those among
    ``texts`` hold sentences rather than labels, and of those among ``folded`` labels are one that
    differ in case or blanks only."""

    def fit(name: str) -> Feature:
        column = train[name]
        kind = COLUMN_TYPES["text" if name in texts else column_type(column.type)]
        feature: Feature = kind.fit(name, column, spec)
        return feature.model_copy(update={"folded": True}) if name in folded else feature

    return FeatureEncoder(features=[fit(name) for name in names])
