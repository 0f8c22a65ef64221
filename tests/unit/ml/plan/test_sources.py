"""What a plan makes of a model that starts from another's weights, and what it refuses."""

from typing import Any

import pyarrow as pa
import pytest

from app.errors import InvalidRequest
from app.ml.specs import MLPSpec, PretrainedSpec
from tests.support.transfer import NAMES, TABLE, clouds, planned
from tests.support.workbench import Run, Workbench, table_of

BATCH_NORM = {"kind": "mlp", "hidden": [4], "norm": "batch"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    bench = Workbench(tmp_path_factory.mktemp("sources"))
    fields: dict[str, Any] = {"features": NAMES, "epochs": 1}
    return {
        "mlp": bench.train(TABLE, **fields, model={"kind": "mlp", "hidden": [4]}),
        "norm": bench.train(TABLE, **fields, model=BATCH_NORM),
        "tabular": bench.train(TABLE, **fields, model="tabular"),
        "robust": bench.train(TABLE, **fields, model="linear", preprocessing={"numbers": "robust"}),
    }


def refused(run: Run, pointer: str, table: pa.Table = TABLE, **fields: Any) -> str:
    """The detail of the one error, which stands at ``pointer``."""
    with pytest.raises(InvalidRequest) as caught:
        planned(run, table, **fields)
    assert [error.pointer for error in caught.value.errors] == [pointer]
    return caught.value.errors[0].detail


# ---------------------------------------------------------------- what is taken over


def test_features_and_preprocessing_are_the_sources(runs: dict[str, Run]) -> None:
    made = planned(runs["robust"], TABLE, target="z")
    assert made.spec.features == NAMES
    assert made.spec.preprocessing.numbers == "robust"
    assert made.warnings == []
    assert planned(runs["robust"], TABLE, features=NAMES, target="z").spec == made.spec


def test_the_architecture_is_told_and_the_version_pinned(runs: dict[str, Run]) -> None:
    spec = planned(runs["mlp"], TABLE, freeze=["0.*"]).spec
    assert spec.model == PretrainedSpec(
        model="base@1", freeze=["0.*"], architecture=MLPSpec(hidden=[4])
    )
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec


def test_an_architecture_of_ones_own_is_refused(runs: dict[str, Run]) -> None:
    model = {"kind": "pretrained", "model": "base", "architecture": "linear"}
    said = refused(runs["mlp"], "/model/architecture", model=model)
    assert "leave this out" in said
    told = planned(runs["mlp"], TABLE).spec.model
    assert isinstance(told, PretrainedSpec)
    assert told.architecture == MLPSpec(hidden=[4])
    again = planned(runs["mlp"], TABLE, model=told.model_dump()).spec
    assert again.model == told, "as it was told it may be sent again"


@pytest.mark.parametrize(("target", "outputs"), [("y", 1), ("three", 3), (["y", "z"], 2)])
def test_the_size_is_that_with_the_new_head(
    runs: dict[str, Run], target: Any, outputs: int
) -> None:
    made = planned(runs["mlp"], TABLE, target=target)
    assert made.parameters == 6 * 4 + 5 * outputs
    assert made.memory_bytes > 4 * made.parameters


def test_what_is_asked_for_besides_is_kept(runs: dict[str, Run]) -> None:
    spec = planned(runs["mlp"], TABLE, epochs=3, batch_size=7, optimizer="sgd").spec
    assert (spec.epochs, spec.batch_size, spec.optimizer.kind) == (3, 7, "sgd")


def test_columns_that_the_source_does_not_read_may_differ(runs: dict[str, Run]) -> None:
    table = clouds(40).select([*NAMES, "y"]).append_column("new", pa.array(["q", "r"] * 20))
    assert planned(runs["mlp"], table).spec.features == NAMES


def test_categories_that_the_source_has_not_seen_are_no_trouble(runs: dict[str, Run]) -> None:
    assert planned(runs["mlp"], clouds(60, c=[f"c{i}" for i in range(60)])).spec.features == NAMES


# ---------------------------------------------------------------- refusals


def test_a_column_that_is_not_there_is_told(runs: dict[str, Run]) -> None:
    table = TABLE.drop_columns(["b"])
    assert "'base@1' reads a column 'b'" in refused(runs["mlp"], "/model/model", table)


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [("a", ["x", "y"] * 40, "category"), ("c", [1.5, 2.5] * 40, "number")],
)
def test_a_column_of_another_type_is_told_with_the_remedy(
    runs: dict[str, Run], name: str, values: list[Any], kind: str
) -> None:
    columns = {field: TABLE[field].to_pylist() for field in TABLE.column_names}
    detail = refused(runs["mlp"], "/model/model", table_of({**columns, name: values}))
    assert f"'{name}'" in detail
    assert f"here it is {kind}" in detail
    assert "upload the table with its type given" in detail


@pytest.mark.parametrize("features", [["a", "b"], ["b", "a", "c"], ["a", "b", "c", "z"]])
def test_other_features_are_refused(runs: dict[str, Run], features: list[str]) -> None:
    detail = refused(runs["mlp"], "/features", features=features)
    assert "'a', 'b', 'c', in this order; leave features out" in detail


@pytest.mark.parametrize(
    ("field", "value"), [("numbers", "standard"), ("numbers", "none"), ("categories", "one_hot")]
)
def test_another_preprocessing_is_refused(runs: dict[str, Run], field: str, value: str) -> None:
    detail = refused(runs["robust"], f"/preprocessing/{field}", preprocessing={field: value})
    assert "leave this out" in detail


def test_the_same_preprocessing_may_be_repeated(runs: dict[str, Run]) -> None:
    told = {"numbers": "robust", "categories": "auto", "missing": "impute"}
    assert planned(runs["robust"], TABLE, preprocessing=told).spec.preprocessing.numbers == "robust"


@pytest.mark.parametrize("target", ["a", "b", ["z", "a"]])
def test_a_feature_of_the_source_is_no_target(runs: dict[str, Run], target: Any) -> None:
    assert "is a feature of 'base@1'" in refused(runs["mlp"], "/target", target=target)


def test_a_feature_of_the_source_is_no_weight(workbench: Workbench) -> None:
    """As in a job that names its features."""
    table = TABLE.append_column("w", pa.array([1.0 + i % 3 for i in range(80)]))
    run = workbench.train(table, features=["a", "w"], model="linear", epochs=1)
    refused(run, "/sample_weight", table, sample_weight="w")


def test_a_feature_of_the_source_does_not_tell_the_split(workbench: Workbench) -> None:
    parts = ["train", "train", "validation", "test"]
    table = TABLE.append_column("part", pa.array([parts[i % 4] for i in range(80)]))
    run = workbench.train(table, features=["a", "part"], model="linear", epochs=1)
    with pytest.raises(InvalidRequest, match="part"):
        planned(run, table, split={"strategy": "column", "column": "part"})


@pytest.mark.parametrize("pattern", ["7.*", "weight", "0", "0.Weight", ""])
def test_a_pattern_that_freezes_nothing_is_refused(runs: dict[str, Run], pattern: str) -> None:
    if not pattern:
        with pytest.raises(ValueError, match="at least 1 character"):
            planned(runs["mlp"], TABLE, freeze=[pattern])
        return
    detail = refused(runs["mlp"], "/model/freeze/1", freeze=["0.*", pattern])
    assert "matches no parameter of 'base@1'" in detail
    assert "'0.weight'" in detail


@pytest.mark.parametrize(
    ("name", "buffer"),
    [("norm", "1.running_mean"), ("norm", "*.num_batches_tracked"), ("tabular", "embed.low")],
)
def test_what_is_no_parameter_cannot_be_frozen(
    runs: dict[str, Run], name: str, buffer: str
) -> None:
    detail = refused(runs[name], "/model/freeze/0", freeze=[buffer])
    assert buffer not in detail.split("there are")[1]


@pytest.mark.parametrize(
    ("name", "freeze"),
    [
        ("mlp", ["*"]),
        ("mlp", ["0.*", "2.*"]),
        ("norm", ["*"]),
        ("norm", ["*.weight", "*.bias"]),
        ("tabular", ["*"]),
        (
            "tabular",
            ["embed.weight", "embed.line", "embed.bias", "[!e]*.*", "[!en]*"],
        ),
    ],
)
def test_freezing_every_parameter_is_refused(
    runs: dict[str, Run], name: str, freeze: list[str]
) -> None:
    assert "nothing is left to train" in refused(runs[name], "/model/freeze", freeze=freeze)


def test_a_batch_norm_is_found_in_a_source_too(runs: dict[str, Run]) -> None:
    with pytest.raises(InvalidRequest, match="batch norm cannot learn from batches of one row"):
        planned(runs["norm"], TABLE, batch_size=1)
    assert planned(runs["mlp"], TABLE, batch_size=1).spec.batch_size == 1
