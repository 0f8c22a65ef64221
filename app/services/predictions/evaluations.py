"""How a model does on a dataset; torch is imported on first use."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from app.db.models import Dataset, ModelVersion
from app.errors import InvalidRequest
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.notations.notation import OnError
from app.ml.tables import parquet
from app.ml.tables.ingest import Options
from app.names import unknown
from app.runtime.context import Context
from app.services.datasets import creation, datasets
from app.services.predictions import files
from app.services.predictions.predictors import Predictors
from app.services.predictions.resolver import load_version

if TYPE_CHECKING:
    from app.ml.evaluation.evaluate import Evaluation


_LEARNT = (
    "the model was trained on all of these rows, so that it does better on them than on others; "
    "its metrics.test are of rows that the model before its refit had not seen"
)


class ModelEvaluation(NamedTuple):
    """Which model, on which dataset, and what was found."""

    model: ModelVersion
    dataset: Dataset | None
    """``None``: on a file that came with the request."""
    evaluation: "Evaluation"


def evaluate(
    context: Context, predictors: Predictors, ref: str, dataset_ref: str, by: str | None = None
) -> ModelEvaluation:
    """Compare what the model ``ref`` predicts with the targets of a dataset, also ``by`` the values
    of one of its columns.

    Only the columns that the model needs are read. Raises NotFound (the model), InvalidRequest
    (the dataset, or a column of it), InvalidData or ArtifactCorrupt.
    """
    version, predictor = load_version(context, predictors, ref)
    with context.database.read() as session:
        dataset = datasets.find(session, dataset_ref, "/dataset")
    from app.ml.evaluation import evaluate

    types: dict[str, TypeName | None] = {
        column["name"]: None if column["missing"] == dataset.rows else column["type"]
        for column in dataset.columns
    }
    evaluate.require_columns(predictor.card, types)  # before anything is read
    if by is not None and by not in types:
        raise InvalidRequest.at("/by", unknown("column", by, list(types)), "unknown_column")
    columns = [*evaluate.columns_of(predictor.card), *filter(None, [by])]
    table = datasets.read_columns(context, dataset, list(dict.fromkeys(columns)))
    found = evaluate.evaluate(predictor, table, by)
    if dataset.sha256 == version.dataset_sha256 and predictor.card.trained_on == "all":
        found.warnings.append(_LEARNT)
    return ModelEvaluation(version, dataset, found)


@files.releases_tables
def evaluate_file(
    context: Context,
    predictors: Predictors,
    ref: str,
    path: Path,
    options: Options,
    on_error: OnError | None,
    by: str | None,
) -> ModelEvaluation:
    """Compare what the model ``ref`` predicts with the targets in a file, whose cells are read as
    those were that it was trained on; ``by`` as in ``evaluate``.

    Raises NotFound (the model), InvalidInput of any kind, StorageFull or Unavailable.
    """
    version, predictor = load_version(context, predictors, ref)
    from app.ml.evaluation import evaluate

    card = predictor.card
    types = evaluate.columns_of(card)
    known = {"types": types, "bounds": card.preprocessing.features.bounds, "types_if_there": True}
    read = files.as_trained(options, card, on_error).model_copy(update=known)
    with TemporaryDirectory(dir=context.storage.scratch) as folder:
        limits = creation.parse_limits(context, path.stat().st_size)
        file = context.parsers.parse(path, Path(folder), read, limits)
        stored = Path(folder) / parquet.FILE
        names = parquet.names(stored)
        evaluate.require_columns(card, {name: types.get(name) for name in names}, "file")
        if by is not None and by not in names:
            raise InvalidRequest.at("/by", unknown("column", by, names), "unknown_column")
        needed = dict.fromkeys([*types, *filter(None, [by])])
        table = evaluate.with_known_labels(card, parquet.read(stored, list(needed)))
        found = evaluate.evaluate(predictor, table, by, "file")
        found.warnings.extend(file.warnings)
    return ModelEvaluation(version, None, found)
