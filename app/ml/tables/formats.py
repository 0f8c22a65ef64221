"""Which format a file has: by what is said of it, by its name, and by its first bytes."""

from typing import Literal

from app.errors import InvalidData, UnsupportedMediaType
from app.ml.tables import packing
from app.ml.tables.packing import Unpacked

Format = Literal["csv", "ndjson", "parquet", "arrow", "spreadsheet"]
TEXT: frozenset[Format] = frozenset({"csv", "ndjson"})

_NAMES: dict[Format, str] = {
    "parquet": "a parquet file",
    "arrow": "an arrow file",
    "spreadsheet": "a spreadsheet",
}
_ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".xlsx": "spreadsheet",
    ".xlsm": "spreadsheet",
    ".xlsb": "spreadsheet",
    ".xls": "spreadsheet",
    ".ods": "spreadsheet",
}
_FOREIGN = (
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x89HDF", "an HDF5 file"),
    (b"FEA1", "a Feather file of version 1 (write version 2)"),
    (b"%PDF", "a PDF"),
    (b"SQLite format 3", "an SQLite database"),
)
_JSON = (b'{"', b'[{"', b"[\n", b"{\n")
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"PAR1", "parquet"),
    (b"\xff\xff\xff\xff", "arrow"),
    (b"ARROW1", "arrow"),
    (b"PK\x03\x04", "spreadsheet"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "spreadsheet"),
)


def format_of(name: str) -> Format | None:
    """Return the format by the end of a file's name; ``.gz`` and its like are passed over."""
    name = name.lower()
    for end in packing.ENDINGS:
        name = name.removesuffix(end)
    return next((kind for end, kind in _ENDINGS.items() if name.endswith(end)), None)


def sniff(head: bytes) -> Format | None:
    """Return the binary format by a file's first bytes; a zip archive may be a spreadsheet."""
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def guess(head: bytes) -> Format | None:
    """Return the format that a file of no known name seems to have."""
    return "ndjson" if head.lstrip().startswith(_JSON) else sniff(head)


def checked(file: Unpacked, declared: Format) -> Format:
    """Return the format in which a file is read: as ``declared``, but for what an archive holds and
    for text that is sent as a spreadsheet, as browsers on Windows do.

    Nothing is ever unpickled. Raises UnsupportedMediaType where it is plainly something else, and
    InvalidData where it is empty.
    """
    with file.path.open("rb") as content:
        head = content.read(16)
    if not head:
        raise InvalidData("the file is empty; send a header line and at least one row")
    what = next((what for magic, what in _FOREIGN if head.startswith(magic)), None)
    found = sniff(head)
    if what is None and file.packing is not None:
        if (twice := packing.packing_of(head)) not in (None, "zip"):
            what = f"{twice} within {file.packing}"
        elif found is not None:
            what = f"{_NAMES[found]} within {file.packing}, which is for text"
        elif declared in ("parquet", "arrow"):
            what = f"{file.packing}, which is for the text formats only"
        else:
            inner = format_of(file.name)
            return inner if inner in TEXT else declared if declared in TEXT else "csv"
    if what is None and declared == "csv" and head.lstrip().startswith(_JSON):
        what = "JSON"
    if what is None and declared == "spreadsheet" and found is None:
        return "csv"
    if what is None and found not in (None, declared):
        assert found is not None
        what = _NAMES[found]
    if what is not None:
        raise UnsupportedMediaType(
            f"the content is {what}, not {declared}; send CSV, NDJSON, Parquet, Arrow or a "
            "spreadsheet under its own media type"
        )
    return declared
