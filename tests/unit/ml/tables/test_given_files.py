"""Small files that users have sent, other than CSV: each stands for a kind."""

from pathlib import Path
from typing import Any

import pytest

from app.ml.tables.formats import format_of
from app.ml.tables.ingest import Limits, Options, Summary, ingest

GIVEN = Path(__file__).parents[3] / "fixtures" / "tables"


def read(folder: Path, name: str, **options: Any) -> Summary:
    kind = format_of(name) or "csv"
    limits = Limits(decoded_bytes=1 << 26)
    return ingest(GIVEN / name, folder, Options(format=kind, **options), limits)


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("array.json", 2, {"a": "number", "b": "number"}),
        ("nested.ndjson", 12, {"user.age": "number", "user.geo.lat": "number", "y": "number"}),
        ("numbers-as-strings.ndjson", 12, {"v": "number"}),
        ("NaN.ndjson", 2, {"a": "number", "b": "number"}),
        ("duration.parquet", 24, {"t": "number", "x": "number"}),
        ("list.parquet", 24, {"x": "number"}),
        ("pandas-date-index.parquet", 24, {"x": "number", "index": "datetime"}),
        ("feather.arrow", 24, {"a": "number", "b": "category"}),
        ("table.csv.bz2", 12, {"a": "number", "b": "number", "g": "category"}),
        ("table.zip", 12, {"a": "number", "b": "number", "g": "category"}),
    ],
)
def test_a_given_file_is_read_as_meant(
    tmp_path: Path, name: str, rows: int, columns: dict[str, str]
) -> None:
    found = read(tmp_path, name)
    types = {column["name"]: column["type"] for column in found.columns}
    assert found.rows == rows
    assert columns.items() <= types.items()


def test_details_of_them(tmp_path: Path) -> None:
    by_name = {c["name"]: c for c in read(tmp_path, "duration.parquet").columns}
    assert by_name["t"]["max"] == 1380  # seconds
    found = read(tmp_path, "list.parquet")
    assert any("'l'" in warning and "left out" in warning for warning in found.warnings)
    assert [c["missing"] for c in read(tmp_path, "NaN.ndjson").columns] == [0, 1]
    asked = read(tmp_path, "numbers-as-strings.ndjson", types={"v": "number"})
    assert {c["name"]: c["type"] for c in asked.columns}["v"] == "number"
