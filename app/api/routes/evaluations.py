"""``/v1/models/{ref}/evaluate``."""

from dataclasses import asdict

from fastapi import APIRouter

from app.api.deps import ContextDep, PredictorsDep
from app.api.http.json_route import StrictJSONRoute
from app.api.schemas.datasets import DatasetRef
from app.api.schemas.evaluations import EvaluateRequest, EvaluationOut
from app.services.predictions import evaluations

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=StrictJSONRoute)


@router.post("/{ref}/evaluate")
def evaluate_model(
    ref: str, request: EvaluateRequest, context: ContextDep, predictors: PredictorsDep
) -> EvaluationOut:
    """Metrics on the rows of a dataset whose targets are known, beside those of a guess."""
    found = evaluations.evaluate(context, predictors, ref, request.dataset, request.by)
    return EvaluationOut(
        model=found.model.name,
        version=found.model.version,
        dataset=DatasetRef(id=found.dataset.id, name=found.dataset.name),
        **asdict(found.evaluation),
    )
