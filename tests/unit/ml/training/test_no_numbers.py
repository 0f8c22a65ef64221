"""Tables without a number: every optimizer trains a model of categories alone."""

from typing import Any, get_args

import pytest

from app.ml.specs import OptimizerSpec
from tests.support.workbench import Workbench, table_of

TABLE = table_of(
    {
        "color": [["red", "green", "blue"][i % 3] for i in range(60)],
        "city": [f"city {i * 7 % 80}" for i in range(60)],
        "y": [float(i % 3) for i in range(60)],
    }
)


OPTIMIZERS = [spec.model_fields["kind"].default for spec in get_args(get_args(OptimizerSpec)[0])]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["tabular", "mlp", "linear"])
def test_every_optimizer_trains_on_categories_alone(
    workbench: Workbench, kind: str, optimizer: str
) -> None:
    fields: dict[str, Any] = {"features": ["color", "city"], "epochs": 2}
    preprocessing = {"categories": "one_hot" if kind == "linear" else "auto"}
    run = workbench.train(
        TABLE,
        model={"kind": kind},
        optimizer={"kind": optimizer},
        preprocessing=preprocessing,
        **fields,
    )
    assert len(run.epochs) == 2
    assert run.ended.test is not None
    assert None not in [run.ended.test[name] for name in ("mae", "rmse", "r2")]
