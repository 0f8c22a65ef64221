"""An example for every JSON body, by operation, and for files of text; each is one that works."""

from typing import Any


def _named(**examples: Any) -> dict[str, Any]:
    return {name: {"value": value} for name, value in examples.items()}


FILES: dict[str, dict[str, Any]] = {
    "text/csv": _named(flats="size,district,rent\n54,north,920\n71.5,south,1130\n"),
    "application/x-ndjson": _named(
        flats='{"size": 54, "district": "north", "rent": 920}\n'
        '{"size": 71.5, "district": "south", "rent": 1130}\n'
    ),
}
"""By the media type of the file."""
EXAMPLES: dict[str, dict[str, Any]] = {
    "create_dataset": _named(
        rows={
            "name": "flats",
            "source": {
                "kind": "inline",
                "rows": [
                    {"size": 54.0, "district": "north", "rent": 920.0},
                    {"size": 71.5, "district": "south", "rent": 1130.0},
                ],
            },
        },
        columns={"source": {"kind": "inline", "columns": {"x": [0.0, 0.5], "y": [0.3, 0.65]}}},
        line={"name": "line", "source": {"kind": "synthetic", "generator": "line"}},
    ),
    "create_job": _named(
        least={"dataset": "flats", "target": "rent"},
        line={
            "dataset": "line",
            "target": "y",
            "model": {"kind": "linear"},
            "loss": "l1",
            "optimizer": {"kind": "sgd", "lr": 0.05},
            "epochs": 100,
            "register_as": "line",
        },
        layers={
            "dataset": "flats",
            "target": "rent",
            "model": {
                "kind": "sequential",
                "layers": [
                    {"kind": "Linear", "out_features": 64},
                    "ReLU",
                    {"kind": "Dropout", "p": 0.1},
                    "Linear",
                ],
            },
            "scheduler": "one_cycle",
            "epochs": 60,
        },
    ),
    "evaluate_model": _named(other_rows={"dataset": "flats-2026"}),
    "put_alias": _named(third={"version": 3}),
    "promote_checkpoint": _named(own_name={"register_as": "flats-early"}),
    "predict": _named(
        rows={"rows": [{"size": 60.0, "district": "north"}, {"size": None, "district": "south"}]},
        columns={"columns": {"size": [60.0, 80.0], "district": ["north", "south"]}},
        instances={"instances": [[60.0, "north"]]},
    ),
    "infer": (
        tensors := _named(
            tensors={
                "inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [0.5, 0.9]}]
            }
        )
    ),
    "infer_version": tensors,
    "invocations": _named(
        split={"dataframe_split": {"columns": ["x"], "data": [[0.5], [0.9]]}},
        records={"dataframe_records": [{"x": 0.5}]},
    ),
}
