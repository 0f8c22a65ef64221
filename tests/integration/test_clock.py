"""A clock that was set back while nobody ran."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support.server import Server


def test_a_clock_that_was_set_back_changes_no_order(data_dir: Path) -> None:
    """The newest dataset is from an hour ahead, as one that was made before the clock was set."""
    with Server(data_dir) as server:
        made = server.line("before")["id"]
        server.terminate()
        ahead = f"{made[:9]}{'z' * 3}{made[12:]}"
        with closing(sqlite3.connect(data_dir / "fitserve.db")) as database, database:
            database.execute("UPDATE datasets SET id = ? WHERE id = ?", (ahead, made))
        (data_dir / "datasets" / made).rename(data_dir / "datasets" / ahead)
        server.restart()
        after = server.line("after")["id"]
        assert after > ahead > made
        listed = server.ok("GET", "/v1/datasets")["data"]
        assert [dataset["name"] for dataset in listed] == ["after", "before"]
