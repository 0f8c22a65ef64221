"""Files that are packed, encoded, foreign, damaged or too much: read, or refused with the place."""

import gzip
import io
import pickle
import uuid
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from app.errors import InvalidData, StorageFull, TooLarge, UnsupportedMediaType
from app.ml.tables.formats import Format, sniff
from app.ml.tables.ingest import Limits, Options, ingest
from tests.support.files import as_arrow, as_parquet, ingested, pointers, refusal
from tests.support.workbench import table_of

TABLE = table_of({"a": [1, 2, 3], "b": ["x", "y", None]})
FORMATS: list[Format] = ["csv", "ndjson", "parquet", "arrow"]
FILES: dict[Format, bytes] = {
    "csv": b"a,b\n1,x\n2,y\n3,\n",
    "ndjson": b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n{"a":3}\n',
    "parquet": as_parquet(TABLE),
    "arrow": as_arrow(TABLE),
}

# ---------------------------------------------------------------- gzip


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_text_formats_may_be_packed(tmp_path: Path, kind: Format) -> None:
    plain = ingested(tmp_path, FILES[kind], kind)
    packed = gzip.compress(FILES[kind])
    assert ingested(tmp_path, packed, kind).sha256 == plain.sha256
    members = gzip.compress(FILES[kind][:7]) + gzip.compress(FILES[kind][7:])
    assert ingested(tmp_path, members, kind).sha256 == plain.sha256
    assert ingested(tmp_path, packed + b"\0" * 512, kind).sha256 == plain.sha256


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_binary_formats_are_not_to_be_packed(tmp_path: Path, kind: Format) -> None:
    error = refusal(tmp_path, UnsupportedMediaType, gzip.compress(FILES[kind]), kind)
    assert "gzip" in error.detail


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, kind: Format) -> None:
    bomb = gzip.compress(b"a,b\n" + b"1,2\n" * 20_000_000, 1)
    assert len(bomb) < 1_000_000
    error = refusal(tmp_path, TooLarge, bomb, kind, most=10_000_000)
    assert "10000000 bytes" in error.detail


def test_a_bomb_of_many_members_is_counted_as_a_whole(tmp_path: Path) -> None:
    member = gzip.compress(b"1,2\n" * 100_000)
    refusal(tmp_path, TooLarge, gzip.compress(b"a,b\n") + member * 30, most=10_000_000)


@pytest.mark.parametrize("kept", [3, 10, 60, -9, -8, -1])
def test_gzip_that_is_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    random = np.random.default_rng(0).random(200).astype(str)
    packed = gzip.compress("\n".join(["a", *random]).encode())
    error = refusal(tmp_path, InvalidData, packed[:kept])
    assert "cut off" in error.detail


def test_gzip_that_is_damaged_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(FILES["csv"] * 100))
    packed[30] ^= 255
    assert "damaged" in refusal(tmp_path, InvalidData, bytes(packed)).detail
    tail = gzip.compress(FILES["csv"]) + b"garbage"
    assert "damaged" in refusal(tmp_path, InvalidData, tail).detail


def test_packed_nothing_is_an_empty_file(tmp_path: Path) -> None:
    assert "empty" in refusal(tmp_path, InvalidData, gzip.compress(b"")).detail


# ---------------------------------------------------------------- encodings


@pytest.mark.parametrize(
    "encoding",
    ["latin-1", "cp1252", "iso-8859-15", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "UTF8"],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_other_encodings_are_read_when_named(tmp_path: Path, encoding: str, pack: type) -> None:
    content = pack("ort,größe\nKöln,1\n".encode(encoding))
    table = ingested(tmp_path, content, encoding=encoding).table
    assert table.to_pydict() == {"ort": ["Köln"], "größe": [1]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_a_byte_order_mark_tells_the_encoding(
    tmp_path: Path, encoding: str, pack: type, kind: Format
) -> None:
    text = '{"ort":"Köln"}\n' if kind == "ndjson" else "ort\nKöln\n"
    table = ingested(tmp_path, pack(text.encode(encoding)), kind).table
    assert table.to_pydict() == {"ort": ["Köln"]}


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_mark_of_utf_8_is_passed_over_where_utf_8_is_named_too(
    tmp_path: Path, kind: Format, pack: type
) -> None:
    """``text/csv; charset=utf-8`` with a mark is what Excel and many clients send."""
    stored = ingested(tmp_path, pack(b"\xef\xbb\xbf" + FILES[kind]), kind, encoding="utf-8")
    assert stored.sha256 == ingested(tmp_path, FILES[kind], kind).sha256


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_is_no_utf_8_is_refused_with_the_remedy(tmp_path: Path, pack: type) -> None:
    content = pack("a,ort\n1,Rom\n2,Köln\n".encode("latin-1"))
    error = refusal(tmp_path, InvalidData, content)
    assert "encoding=cp1252" in error.detail
    assert pointers(error) == ["/line/3"]


@pytest.mark.parametrize("encoding", ["ascii", "utf-16", "shift_jis", "cp1252"])
def test_what_is_not_in_the_encoding_that_was_named_is_refused(
    tmp_path: Path, encoding: str
) -> None:
    content = b"a,b\n1,\x81\xfe\x9d\n3"
    assert encoding in refusal(tmp_path, InvalidData, content, encoding=encoding).detail


def test_characters_across_chunks_are_whole(tmp_path: Path) -> None:
    text = "a\nx" + "ö" * 1_500_000 + "\n"
    for encoding in ("utf-16", "utf-8"):
        packed = gzip.compress(text.encode(encoding), 1)
        found = ingested(tmp_path, packed, encoding=encoding).table["a"].to_pylist()
        assert found == ["x" + "ö" * 1_500_000]


@pytest.mark.parametrize(
    "encoding",
    ["klingon", "base64", "rot13", "zlib", "idna", "utf-7", "unicode_escape", "x\0y", ""],
)
def test_an_encoding_that_no_file_is_written_in_is_refused(tmp_path: Path, encoding: str) -> None:
    error = refusal(tmp_path, InvalidData, FILES["csv"], encoding=encoding)
    assert pointers(error) == ["/encoding"]


@pytest.mark.parametrize("delimiter", ["·", "\n", "\r", '"', "\0", "", ",,"])
def test_a_delimiter_that_cannot_be_one_is_refused(tmp_path: Path, delimiter: str) -> None:
    error = refusal(tmp_path, InvalidData, FILES["csv"], delimiter=delimiter)
    assert pointers(error) == ["/delimiter"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_nul_byte_is_refused_with_its_line(tmp_path: Path, pack: type) -> None:
    error = refusal(tmp_path, InvalidData, pack(b"a,b\n1,2\n3,\0\n"))
    assert pointers(error) == ["/line/3"]
    assert "NUL" in error.detail
    assert pointers(refusal(tmp_path, InvalidData, pack(b'{"a":\0}'), "ndjson")) == ["/line/1"]


def test_utf_16_without_a_mark_is_told_by_its_nul_bytes(tmp_path: Path) -> None:
    assert "utf-16?" in refusal(tmp_path, InvalidData, "a,b\n1,2\n".encode("utf-16-le")).detail


# ---------------------------------------------------------------- something else


def zipped() -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.csv", "a,b\n1,2\n")
            archive.writestr("b.csv", "a,b\n1,2\n")
        return file.getvalue()


def numpys() -> bytes:
    with io.BytesIO() as file:
        np.save(file, np.arange(3))
        return file.getvalue()


def torchs(zip_file: bool) -> bytes:
    with io.BytesIO() as file:
        torch.save({"a": torch.zeros(2)}, file, _use_new_zipfile_serialization=zip_file)
        return file.getvalue()


@pytest.mark.parametrize("told", FORMATS)
@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(zipped(), "zip archive", id="zip"),
        pytest.param(torchs(True), "zip archive", id="pt"),
        pytest.param(torchs(False), "pickle", id="old pt"),
        pytest.param(numpys(), "NumPy", id="npy"),
        *(pytest.param(pickle.dumps([1], n), "pickle", id=f"pickle {n}") for n in (2, 3, 4, 5)),
        pytest.param(b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "HDF5", id="hdf5"),
        pytest.param(b"FEA1" + b"\0" * 50, "version 1", id="old feather"),
        pytest.param(b"%PDF-1.7\n", "PDF", id="pdf"),
        pytest.param(b"SQLite format 3\0", "SQLite", id="sqlite"),
    ],
)
def test_foreign_files_are_refused_by_their_first_bytes(
    tmp_path: Path, told: Format, content: bytes, what: str
) -> None:
    error = refusal(tmp_path, UnsupportedMediaType, content, told)
    assert what in error.detail
    assert f"not {told}" in error.detail or "zip archive of" in error.detail


@pytest.mark.parametrize("told", FORMATS)
@pytest.mark.parametrize("real", ["parquet", "arrow"])
def test_a_binary_format_sent_as_another_is_told(
    tmp_path: Path, told: Format, real: Format
) -> None:
    assert sniff(FILES[real]) == real
    if told != real:
        error = refusal(tmp_path, UnsupportedMediaType, FILES[real], told)
        assert f"{real} file, not {told}" in error.detail


@pytest.mark.parametrize("told", ["parquet", "arrow"])
@pytest.mark.parametrize("real", ["csv", "ndjson"])
def test_text_sent_as_a_binary_format_is_refused(
    tmp_path: Path, told: Format, real: Format
) -> None:
    assert "cannot be read" in refusal(tmp_path, InvalidData, FILES[real], told).detail


@pytest.mark.parametrize("told", FORMATS)
def test_an_empty_file_is_refused(tmp_path: Path, told: Format) -> None:
    assert "empty" in refusal(tmp_path, InvalidData, b"", told).detail


@pytest.mark.parametrize("kind", FORMATS)
def test_random_bytes_are_refused(tmp_path: Path, kind: Format) -> None:
    refusal(tmp_path, InvalidData, uuid.UUID(int=2**127 + 5).bytes * 50, kind)


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_a_plain_file_beyond_the_limit_is_refused(tmp_path: Path, kind: Format) -> None:
    size = len(FILES[kind])
    refusal(tmp_path, TooLarge, FILES[kind], kind, most=size - 1)
    ingested(tmp_path, FILES["csv"], most=len(FILES["csv"]))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk_is_told_as_such(tmp_path: Path, kind: Format) -> None:
    (tmp_path / "source").write_bytes(FILES[kind])
    (tmp_path / "into").mkdir()
    limits = Limits(decoded_bytes=1 << 20, free_disk_bytes=1 << 60)
    with pytest.raises(StorageFull):
        ingest(tmp_path / "source", tmp_path / "into", Options(format=kind), limits)


@pytest.mark.parametrize("kind", FORMATS)
def test_threads_change_nothing(tmp_path: Path, kind: Format) -> None:
    rows = 60_000
    table = table_of({"n": list(range(rows)), "c": [f"c{i % 9}" for i in range(rows)]})
    contents: dict[Format, bytes | str] = {
        "csv": "n,c\n" + "".join(f"{i},c{i % 9}\n" for i in range(rows)),
        "ndjson": "".join(f'{{"n":{i},"c":"c{i % 9}"}}\n' for i in range(rows)),
        "parquet": as_parquet(table),
        "arrow": as_arrow(table),
    }
    content = contents[kind]
    once = ingested(tmp_path, content, kind)
    source, into = tmp_path / "source", tmp_path / "into"
    limits = Limits(decoded_bytes=1 << 30, free_disk_bytes=0, threads=2)
    summary = ingest(source, into, Options(format=kind), limits)
    assert summary == once.summary
    assert ingested(tmp_path, content, kind).sha256 == once.sha256
