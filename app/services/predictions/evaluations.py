"""How a model does on a dataset; torch is imported on first use."""

from typing import TYPE_CHECKING, NamedTuple

from app.db.models import Dataset, ModelVersion
from app.ml.tables.canonical import ColumnType
from app.runtime.context import Context
from app.services.datasets import datasets
from app.services.predictions import predictions
from app.services.predictions.predictions import Predictors

if TYPE_CHECKING:
    from app.ml.evaluation.evaluate import Evaluation


class Evaluated(NamedTuple):
    """Which model, on which dataset, and what was found."""

    model: ModelVersion
    dataset: Dataset
    found: "Evaluation"


def evaluate(context: Context, predictors: Predictors, ref: str, dataset_ref: str) -> Evaluated:
    """Hold the model ``ref`` against the targets of a dataset.

    Only the columns that the model needs are read. Raises NotFound (the model), InvalidRequest
    (the dataset, or a column of it), InvalidData or ArtifactCorrupt.
    """
    version, predictor = predictions.load(context, predictors, ref)
    with context.database.read() as session:
        dataset = datasets.find(session, dataset_ref, "/dataset")
    from app.ml.evaluation import evaluate

    types: dict[str, ColumnType | None] = {
        column["name"]: None if column["missing"] == dataset.rows else column["type"]
        for column in dataset.columns
    }
    evaluate.require_columns(predictor.card, types)  # before anything is read
    wanted = list(evaluate.columns_of(predictor.card))
    table = datasets.read_columns(context, dataset.id, wanted)
    return Evaluated(version, dataset, evaluate.evaluate(predictor, table))
