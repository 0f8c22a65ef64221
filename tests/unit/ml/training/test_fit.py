"""The library in one call."""

from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidRequest
from app.ml.training.events import EpochEnded, Event
from app.ml.training.fit import fit

COLUMNS = {"x": [i / 40 for i in range(40)], "y": [0.7 * i / 40 + 0.3 for i in range(40)]}
LINE: dict[str, Any] = {"model": "linear", "optimizer": {"kind": "sgd", "lr": 0.3}, "epochs": 80}


def test_columns_become_a_predictor(tmp_path: Path) -> None:
    events: list[Event] = []
    model = fit(COLUMNS, "y", tmp_path, on_event=events.append, **LINE)
    assert sum(isinstance(event, EpochEnded) for event in events) > 1
    table = model.tables.of_rows([{"x": 0.5}])
    assert model.predictions(model.outputs(table)) == pytest.approx([0.65], abs=0.02)


@pytest.mark.parametrize("name", ["line.csv", "line.txt", "line"])
def test_a_file_does_too(tmp_path: Path, name: str) -> None:
    rows = zip(COLUMNS["x"], COLUMNS["y"], strict=True)
    path = tmp_path / name
    path.write_text("\n".join(["x,y", *(f"{x},{y}" for x, y in rows)]))
    model = fit(path, "y", tmp_path / "work", **LINE)
    assert model.predictions(model.outputs(model.tables.of_rows([{"x": 0.5}]))) == pytest.approx(
        [0.65], abs=0.02
    )


def test_what_is_wrong_names_its_field(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="did you mean 'y'"):
        fit(COLUMNS, "yy", tmp_path)


def test_what_is_missing_or_misspelt_leaves_nothing_behind(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with pytest.raises(InvalidRequest, match=r"there is no file '.*nope\.csv'"):
        fit(tmp_path / "nope.csv", "y", work)
    with pytest.raises(InvalidRequest, match="batch_size") as refused:
        fit(COLUMNS, "y", work, epoch=3, batch_size=0)
    said = {error.pointer: error.detail for error in refused.value.errors}
    assert "did you mean 'epochs'" in said["/epoch"]
    assert "greater than or equal to 1" in said["/batch_size"]
    assert not work.exists()
