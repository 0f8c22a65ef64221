"""The map names the house as it stands: docs/design.md against the files."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "docs" / "design.md").read_text()
MODULES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "app").rglob("*.py")
    if path.name != "__init__.py"
]


def test_every_file_that_the_map_names_is_there() -> None:
    there = [
        "/" + path.relative_to(ROOT).as_posix()
        for top in ("app", "tests", "benchmarks", "alembic")
        for path in (ROOT / top).rglob("*.py")
    ]
    named = set(re.findall(r"[\w/]*\w\.py\b", MAP))
    assert len(named) > 50
    assert [
        name for name in sorted(named) if not any(path.endswith("/" + name) for path in there)
    ] == []


def test_the_map_names_every_module() -> None:
    assert len(MODULES) > 100
    assert [module for module in MODULES if not re.search(rf"\b{Path(module).stem}\b", MAP)] == []


def test_each_room_has_one_line() -> None:
    rooms = re.findall(r"^\| ((?:&nbsp; )?`[^|]+`) \|", MAP, re.MULTILINE)
    assert len(rooms) > 25
    nested = [room for room in rooms if rooms.count(room) > 1]
    assert nested == []
