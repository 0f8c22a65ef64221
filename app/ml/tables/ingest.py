"""A file as it was uploaded to a stored table: the format found out, decoded, typed, profiled.

Runs in a limited child process (``app.executors.parsing``): nothing that a file says of its own
size is believed, and what is unpacked is counted on the way. Importable without torch.
"""

import codecs
import mmap
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.errors import InvalidData
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.notations.notation import CellOptions, Notation
from app.ml.tables import (
    arrow_files,
    csv_files,
    formats,
    json_files,
    packing,
    parquet,
    profile,
    sheets,
)
from app.ml.tables.csv_layout import CSVOptions
from app.ml.tables.formats import Format
from app.ml.tables.typed import ColumnOptions, TypedTable, too_much
from app.storage import require_room

_CHUNK_BYTES = 1024 * 1024
_WORTH_A_THREAD_BYTES = 1024 * 1024
"""Of a table: a thread takes half a millisecond to start."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ENCODINGS = re.compile(
    r"utf-(8|8-sig|16|16-le|16-be|32|32-le|32-be)|ascii|iso8859-\d+|cp\d+|mac-roman|koi8-[rtu]|"
    r"gb(2312|k|18030)|big5|shift_jis|euc_(jp|kr)"
)
"""Python's codecs also compress, escape and encrypt; these are what files are written in."""
_ONLY_OF: dict[str, tuple[Format, ...]] = {
    "delimiter": ("csv",),
    "encoding": ("csv", "ndjson"),
    "header": ("csv", "spreadsheet"),
    "skip_rows": ("csv", "spreadsheet"),
    "comment": ("csv", "spreadsheet"),
    "sheet": ("spreadsheet",),
}
"""The formats of which an option says something."""


class Options(BaseModel):
    """How to read a file, as the client says."""

    model_config = ConfigDict(frozen=True)

    format: Format
    delimiter: str | None = None
    encoding: str | None = None
    header: bool | None = None
    skip_rows: int | None = None
    comment: str | None = None
    sheet: str | None = None
    """Of a spreadsheet; the first that is not empty where it is left out."""
    types: dict[str, TypeName] = {}
    cells: CellOptions = CellOptions()
    notations: dict[str, Notation] = {}
    """How the columns are written on which a model was trained."""
    bounds: dict[str, tuple[float, float]] = {}
    """The least and the largest number that a column may hold."""
    nested: frozenset[str] | None = None
    """The objects of JSON whose members are columns; None: all of them."""
    predicts: bool = False
    """Whether its rows are to be predicted: of the columns that ``types`` does not name only the
    names are read, and JSON as in requests to predict."""
    types_if_there: bool = False
    """Whether a column that ``types`` names may be missing: who asked says what that means."""


class Limits(BaseModel):
    """What one file may take of the machine."""

    model_config = ConfigDict(frozen=True)

    decoded_bytes: int
    """Size of the file once it is unpacked."""
    free_disk_bytes: int | None = None
    """Bytes to stay free on the disk; ``app.storage.require_room`` has the default."""
    threads: int = 1


@dataclass(frozen=True)
class Summary:
    """A stored table in brief: what the row of its dataset holds."""

    rows: int
    columns: list[dict[str, Any]]
    warnings: list[str]
    reading: dict[str, Any] = field(default_factory=dict)
    """What was made out of a text file beside its columns."""


def ingest(source: Path, folder: Path, options: Options, limits: Limits) -> Summary:
    """Read ``source``, write its table into ``folder`` and return its summary.

    Both are on the data disk. Raises InvalidInput of any kind, or StorageFull.
    """
    check_options(options)
    bounds = limits.decoded_bytes, limits.free_disk_bytes
    with packing.unpacked(source, folder, *bounds) as file:
        kind = formats.checked(file, options.format)
        table = _READERS[kind](file.path, folder, options, limits)
    table = replace(table, notes=[*_unused(options, kind), *table.notes])
    found = store(table, folder, limits)
    if options.predicts or options.types_if_there:  # a model says what columns are for
        return replace(found, warnings=profile.warnings([], found.rows, table.notes))
    return found


def _unused(options: Options, kind: Format) -> list[str]:
    """Warnings of options that say nothing of a file of this format."""
    found = []
    for name, kinds in _ONLY_OF.items():
        if getattr(options, name) is not None and kind not in kinds:
            found.append(f"{name}= was not used: it is for {' and '.join(kinds)}, not for {kind}")
    return found


def store(table: TypedTable, folder: Path, limits: Limits) -> Summary:
    """Write a table into ``folder``, profile it meanwhile and return its summary."""

    def write() -> None:
        check = lambda: require_room(folder, limits.free_disk_bytes)  # noqa: E731
        parquet.write(table.table, folder / parquet.FILE, check)

    if limits.threads == 1 or table.table.nbytes < _WORTH_A_THREAD_BYTES:
        write()
        columns = profile.profile(table)
    else:
        with ThreadPoolExecutor(1) as pool:  # Arrow writes on one core only
            written = pool.submit(write)
            columns = profile.profile(table)
            written.result()
    rows = table.table.num_rows
    warnings = profile.warnings(columns, rows, table.notes)
    return Summary(rows, columns, warnings, table.reading)


def check_options(options: Options) -> None:
    """Raise InvalidData at an encoding or delimiter that no file is written in."""
    if options.encoding is not None and not _is_encoding_of_files(options.encoding):
        detail = f"unknown encoding '{options.encoding[:64]}'; try utf-8 or cp1252"
        raise InvalidData.at("/encoding", detail)
    mark = options.delimiter
    if (
        mark is not None
        and mark != "space"
        and (len(mark) != 1 or not mark.isascii() or mark in '\0\r\n"')
    ):
        raise InvalidData.at(
            "/delimiter",
            "the delimiter must be one ASCII character, no quote or line break, or the word space",
        )


def _is_encoding_of_files(name: str) -> bool:
    try:
        return _ENCODINGS.fullmatch(codecs.lookup(name).name) is not None
    except (LookupError, ValueError):
        return False


def _column_options(options: Options) -> ColumnOptions:
    return ColumnOptions(
        options.types,
        only_typed=options.predicts,
        options=options.cells,
        notations=options.notations,
        bounds=options.bounds,
        nested=options.nested,
        types_if_there=options.types_if_there,
    )


# ---------------------------------------------------------------- text formats


def _csv(source: Path, folder: Path, options: Options, limits: Limits) -> TypedTable:
    shape = CSVOptions(options.delimiter, options.header, options.skip_rows, options.comment)
    return _of_text(
        source,
        folder,
        options,
        limits,
        lambda text: csv_files.read_csv(text, shape, _column_options(options), limits.threads),
    )


def _ndjson(source: Path, folder: Path, options: Options, limits: Limits) -> TypedTable:
    most = limits.decoded_bytes
    return _of_text(
        source,
        folder,
        options,
        limits,
        lambda text: json_files.read_ndjson(text, _column_options(options), most, limits.threads),
    )


def _of_text(
    source: Path,
    folder: Path,
    options: Options,
    limits: Limits,
    read: Callable[[Path], TypedTable],
) -> TypedTable:
    """``read`` the file as plain UTF-8: as it is, or decoded beside the draft for the while."""
    with source.open("rb") as file:
        encoding = _encoding(options.encoding, file.read(4))
    if encoding == "utf-8":
        if source.stat().st_size > limits.decoded_bytes:
            raise too_much(limits.decoded_bytes)
        _refuse_nul(source, options)
        return read(source)
    text = folder / "text"
    try:
        _decode(source, text, encoding, limits)
        _refuse_nul(text, options)
        return read(text)
    finally:
        text.unlink(missing_ok=True)


def _encoding(declared: str | None, head: bytes) -> str:
    """Python's name of the encoding; a BOM says more than "utf-8"."""
    by_bom = next((name for bom, name in _BOMS if head.startswith(bom)), None)
    name = codecs.lookup(declared or by_bom or "utf-8").name
    return by_bom or name if name == "utf-8" else name


def _decode(source: Path, text: Path, encoding: str, limits: Limits) -> None:
    """Write ``source`` as UTF-8 without a BOM, counting what comes out."""
    size, decoder = 0, _Decoder(encoding)
    with source.open("rb") as encoded, text.open("wb") as out:
        for chunk in chain(iter(lambda: encoded.read(_CHUNK_BYTES), b""), [b""]):
            content = decoder.utf8(chunk)
            size += len(content)
            if size > limits.decoded_bytes:
                raise too_much(limits.decoded_bytes)
            out.write(content)
            require_room(text.parent, limits.free_disk_bytes)


class _Decoder:
    """From one encoding to UTF-8. What was UTF-8 stays as it is; its reader finds the faults."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._errors = "surrogateescape" if name.startswith("utf-8") else "strict"
        self._decoder = codecs.getincrementaldecoder(name)(self._errors)
        self._lines: int | None = None

    def utf8(self, chunk: bytes) -> bytes:
        """The next piece; an empty one is the end. Raises InvalidData naming the line."""
        try:
            text = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            good = error.object[: error.start].decode(self._name, "ignore")
            raise self._wrong(1 + (self._lines or 0) + good.count("\n")) from error
        except UnicodeError as error:  # UTF-16 and UTF-32 want a BOM
            raise self._wrong(1) from error
        if self._lines is None:
            text = text.removeprefix("\ufeff")
        self._lines = (self._lines or 0) + text.count("\n")
        return text.encode("utf-8", self._errors)

    def _wrong(self, line: int) -> InvalidData:
        return InvalidData.at(
            f"/line/{line}",
            f"line {line} is not {self._name}; name the file's encoding, "
            "for example ?encoding=cp1252",
            "encoding",
        )


def _refuse_nul(path: Path, options: Options) -> None:
    if options.predicts and options.format == "ndjson":  # whose decoder says it
        return
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise InvalidData("the file is empty; send a header line and at least one row")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = content.find(b"\0")
            if place < 0:
                return
            line = 1 + sum(block.count(b"\n") for block in _until(content, place))
    raise InvalidData.at(
        f"/line/{line}",
        f"line {line} holds a NUL byte; remove it, or name the file's encoding (utf-16?)",
        "nul",
    )


def _until(content: mmap.mmap, end: int) -> Iterator[bytes]:
    for start in range(0, end, _CHUNK_BYTES):
        yield content[start : min(end, start + _CHUNK_BYTES)]


def _spreadsheet(source: Path, folder: Path, options: Options, limits: Limits) -> TypedTable:
    text = folder / "sheet"
    bounds = limits.decoded_bytes, limits.free_disk_bytes
    try:
        sheet_reading, warnings = sheets.write_csv(source, options.sheet, text, *bounds)
        shape = CSVOptions(sheets.DELIMITER, options.header, options.skip_rows, options.comment)
        table = csv_files.read_csv(text, shape, _column_options(options), limits.threads)
    finally:
        text.unlink(missing_ok=True)
    reading = {key: value for key, value in table.reading.items() if key != "delimiter"}
    return replace(table, notes=[*warnings, *table.notes], reading=sheet_reading | reading)


# ---------------------------------------------------------------- binary formats


def _parquet(source: Path, _folder: Path, options: Options, limits: Limits) -> TypedTable:
    most = limits.decoded_bytes
    return arrow_files.read_parquet(source, _column_options(options), most, limits.threads)


def _arrow(source: Path, _folder: Path, options: Options, limits: Limits) -> TypedTable:
    most = limits.decoded_bytes
    return arrow_files.read_arrow(source, _column_options(options), most, limits.threads)


_READERS: dict[Format, Callable[[Path, Path, Options, Limits], TypedTable]] = {
    "csv": _csv,
    "ndjson": _ndjson,
    "parquet": _parquet,
    "arrow": _arrow,
    "spreadsheet": _spreadsheet,
}
