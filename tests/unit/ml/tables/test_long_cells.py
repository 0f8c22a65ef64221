"""One text cell is at most 8 MiB, whatever it comes in, and however small it is packed."""

import gzip
import json
import resource
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import InvalidData
from app.ml.tables import json_rows
from app.ml.tables.columns import MAX_CELL_BYTES
from app.ml.tables.formats import Format
from app.ml.tables.ingest import Limits, Options, ingest

MIB = 1024 * 1024


def _table(length: int, rows: int = 3) -> pa.Table:
    return pa.table({"n": list(range(rows)), "t": ["a" * length] * rows})


def _parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


def _dictionary(table: pa.Table, path: Path) -> None:
    index = pa.array([0] * table.num_rows, pa.int32())
    texts = pa.DictionaryArray.from_arrays(index, table["t"].slice(0, 1).combine_chunks())
    pq.write_table(table.set_column(1, "t", texts), path, compression="zstd")


def _arrow(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def _view(table: pa.Table, path: Path) -> None:
    _arrow(table.set_column(1, "t", table["t"].cast(pa.string_view())), path)


def _encoded(table: pa.Table, path: Path) -> None:
    _arrow(table.set_column(1, "t", table["t"].dictionary_encode()), path)


def _ndjson(table: pa.Table, path: Path) -> None:
    path.write_text("\n".join(map(json.dumps, table.to_pylist())))


def _csv(table: pa.Table, path: Path) -> None:
    lines = [f"{row['n']},{row['t']}" for row in table.to_pylist()]
    path.write_bytes(gzip.compress("\n".join(["n,t", *lines]).encode(), 1))


WAYS: dict[str, tuple[Format, Callable[[pa.Table, Path], None]]] = {
    "parquet": ("parquet", _parquet),
    "parquet of dictionaries": ("parquet", _dictionary),
    "arrow": ("arrow", _arrow),
    "arrow views": ("arrow", _view),
    "arrow dictionaries": ("arrow", _encoded),
    "ndjson": ("ndjson", _ndjson),
    "csv": ("csv", _csv),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_text_of_more_than_8_mib_is_refused(tmp_path: Path, way: str) -> None:
    kind, write = WAYS[way]
    write(_table(MAX_CELL_BYTES + 1, 2), tmp_path / "file")
    (tmp_path / "into").mkdir()
    with pytest.raises(InvalidData, match="8 MiB"):
        ingest(
            tmp_path / "file", tmp_path / "into", Options(format=kind), Limits(decoded_bytes=2**30)
        )


@pytest.mark.parametrize("way", [way for way in WAYS if way != "csv"])
def test_a_text_just_within_is_stored(tmp_path: Path, way: str) -> None:
    kind, write = WAYS[way]
    write(_table(MAX_CELL_BYTES - 100, 2), tmp_path / "file")
    (tmp_path / "into").mkdir()
    options, limits = Options(format=kind), Limits(decoded_bytes=2**30)
    assert ingest(tmp_path / "file", tmp_path / "into", options, limits).rows == 2


def test_so_is_one_in_json() -> None:
    texts: list[Any] = ["short", "a" * (MAX_CELL_BYTES + 1)]
    with pytest.raises(InvalidData, match="8 MiB"):
        json_rows.from_columns({"t": texts}, {})
    with pytest.raises(InvalidData, match="8 MiB"):
        json_rows.from_rows([{"t": text} for text in texts], {})


def _ingest_within(source: Path, into: Path, most: int, answer: Any) -> None:
    """In a process that may take only so much more than it has."""
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        ingest(source, into, Options(format="parquet"), Limits(decoded_bytes=2**40))
    except InvalidData as error:
        answer.send(error.detail)
    except MemoryError:
        answer.send("out of memory")


def test_a_text_in_every_row_is_refused_before_it_is_written_out(tmp_path: Path) -> None:
    """9 MiB in 60,000 rows would be 500 GiB; the file has some kilobytes."""
    texts = pa.DictionaryArray.from_arrays(
        pa.array([0] * 60_000, pa.int32()), pa.array(["a" * 9 * MIB])
    )
    pq.write_table(pa.table({"t": texts}), tmp_path / "file", compression="zstd")
    assert (tmp_path / "file").stat().st_size < 64 * 1024
    (tmp_path / "into").mkdir()
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (tmp_path / "file", tmp_path / "into", 3 * 2**30, theirs)
    process = context.Process(target=_ingest_within, args=arguments)
    process.start()
    assert "8 MiB" in ours.recv()
    process.join()
