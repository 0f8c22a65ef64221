"""Whether a SQLite file is whole, as far as SQLite can tell.

Pages have no checksums: what this finds is structure that does not hold together. The content of
artifacts is hashed elsewhere.
"""

import sqlite3
import time
from pathlib import Path

_MOST_FAULTS = 5
_INSTRUCTIONS_PER_LOOK = 20_000
"""Instructions of SQLite's virtual machine between two looks at the clock, well below 1 ms."""


def quick_check(path: Path, seconds: float) -> list[str] | None:
    """Return what ``PRAGMA quick_check`` finds wrong with the file, at most five findings.

    It reads the whole file and writes nothing; ``None`` says that ``seconds`` were not enough. A
    file that cannot be read as a database is a finding.
    """
    deadline = time.monotonic() + seconds
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _INSTRUCTIONS_PER_LOOK)
        found = connection.execute(f"PRAGMA quick_check({_MOST_FAULTS})").fetchall()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            return None
        return [str(error)]
    finally:
        connection.close()
    return [line for (line,) in found if line != "ok"]
