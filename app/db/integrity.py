"""Whether a SQLite file is whole, as far as SQLite can tell.

Pages have no checksums: what this finds is structure that does not hold together, and text with
bytes of zero, which a lost page leaves at the end of a long value and nobody can have stored. The
content of artifacts is hashed elsewhere.
"""

import sqlite3
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_MOST_FAULTS = 5
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Primary result codes that blame the file; others the time, the disk's room or its rights."""
_TEXTS = ("JSON", "VARCHAR", "TEXT")
"""How the types of columns of text begin."""
_INSTRUCTIONS_PER_LOOK = 20_000
"""Instructions of SQLite's virtual machine between two looks at the clock, well below 1 ms."""


def quick_check(path: Path, seconds: float, *, frozen: bool = False) -> list[str] | None:
    """Return what ``PRAGMA quick_check`` and ``zeros`` find wrong with the file, at most five each.

    It reads the whole file and writes nothing to it; ``frozen`` nothing beside it either, and does
    not look at a journal there. ``None`` says that it could not be read through, for
    want of time (``seconds``), of room for the files that SQLite puts beside it, or of rights. A
    file that cannot be read as a database is a finding.
    """
    deadline = time.monotonic() + seconds
    how = "immutable=1" if frozen else "mode=ro"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)
    try:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _INSTRUCTIONS_PER_LOOK)
        found = connection.execute(f"PRAGMA quick_check({_MOST_FAULTS})").fetchall()
        lost = [*islice(zeros(connection), _MOST_FAULTS)]
    except sqlite3.DatabaseError as error:
        if (error.sqlite_errorcode & 0xFF) in _DAMAGE:
            return [str(error)]
        return None
    finally:
        connection.close()
    lines = [line for (finding,) in found for line in finding.splitlines()]
    return [line for line in lines if line != "ok" and not line.startswith("***")] + lost


def zeros(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield the values of text in which bytes of zero stand: which table, column and row."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        for _, column, kind, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
            if not kind.startswith(_TEXTS):
                continue
            value = f"instr(CAST(\"{column}\" AS BLOB), x'00')"
            for (row,) in connection.execute(f'SELECT rowid FROM "{table}" WHERE {value}'):
                yield f"row {row} of {table} lost a part of its {column}"
