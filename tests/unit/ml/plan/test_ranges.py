"""What planning lets pass, training can scale into float32."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRequest
from app.ml.data.preparation import prepare
from tests.support.workbench import planned, table_of

ROWS = 30
FAR = st.sampled_from([1e29, -1e31, 1e37, 3e38, -1e39, 1e45, 1e100, -1e149, 1e200, 1.7e308])


@st.composite
def columns(draw: st.DrawFn) -> list[float]:
    """Numbers of one size, and one that is perhaps far from them."""
    size = draw(st.sampled_from([1e-320, 1e-300, 1e-30, 1.0, 1e6]))
    values = [size * i for i in draw(st.permutations(range(ROWS)))]
    if draw(st.booleans()):
        values[draw(st.integers(0, ROWS - 1))] = draw(FAR) * min(size, 1.0)
    return values


@given(
    x=columns(),
    y=columns(),
    numbers=st.sampled_from(["standard", "robust", "quantile", "none"]),
    target=st.sampled_from(["standard", "none"]),
)
def test_what_is_planned_can_be_prepared(
    x: list[float], y: list[float], numbers: str, target: str
) -> None:
    table = table_of({"x": x, "z": [float(i) for i in range(ROWS)], "y": y})
    fields: dict[str, Any] = {"preprocessing": {"numbers": numbers, "target": target}}
    try:
        spec = planned(table, features=["x", "z"], task="regression", **fields).spec
    except InvalidRequest as error:
        [place] = error.errors
        assert place.code == "out_of_range"
        sizes = [abs(value) for value in (x if place.pointer == "/features" else y) if value]
        assert max(sizes) > 1e17 * min(1.0, *sizes)
        return
    prepare(spec, table)  # raises where a number leaves the range


def test_one_far_number_is_taken_where_robust_scales_it_into_range() -> None:
    x = [*map(float, range(ROWS - 1)), 1e39]
    table = table_of({"x": x, "y": [float(i % 7) for i in range(ROWS)]})
    prepare(planned(table, target="y", preprocessing={"numbers": "robust"}).spec, table)
    with pytest.raises(InvalidRequest):
        planned(table, target="y", preprocessing={"numbers": "none"})


@pytest.mark.parametrize(
    ("loss", "largest", "refused"),
    [
        ("mse", 1e20, True),
        ("mse", 1e17, False),
        ("l1", 1e20, False),
        ("l1", 3e38, True),
        ("huber", 3e38, True),
    ],
)
def test_losses_beyond_float32_are_refused_before_they_diverge(
    loss: str, largest: float, refused: bool
) -> None:
    y = [largest * (-1) ** i for i in range(ROWS)]
    table = table_of({"x": [float(i) for i in range(ROWS)], "y": y})
    fields: dict[str, Any] = {"target": "y", "loss": loss, "task": "regression"}
    planned(table, **fields)
    fields["preprocessing"] = {"target": "none"}
    if not refused:
        planned(table, **fields)
        return
    with pytest.raises(InvalidRequest) as caught:
        planned(table, **fields)
    assert [error.pointer for error in caught.value.errors] == ["/preprocessing/target"]


@pytest.mark.parametrize("target", [["y"], "y"])
def test_a_number_far_from_the_training_part_is_refused_at_once(target: Any) -> None:
    y = [float(i) for i in range(ROWS)]
    in_order = {"train": 0.8, "test": 0.2, "strategy": "sequential"}
    for name, pointer in (("x", "/features"), ("y", "/target")):
        for row, refused in ((0, False), (ROWS - 1, True)):
            table = {"x": [*y], "y": [*y]}
            table[name][row] = 1e45 if refused else 1e38
            if not refused:
                planned(table_of(table), target=target, split=in_order)
                continue
            with pytest.raises(InvalidRequest) as caught:
                planned(table_of(table), target=target, split=in_order)
            assert [error.pointer for error in caught.value.errors] == [pointer]
