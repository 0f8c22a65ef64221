"""What files come wrapped in: gzip, bzip2, Zstandard, or a zip archive of one file.

Nothing that a file says of its own size is believed: what comes out is counted. Importable without
torch.
"""

import bz2
import errno
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import pyarrow as pa

from app.errors import InvalidData, UnsupportedMediaType
from app.ml.tables.typed import too_much
from app.storage import require_room

Packing = Literal["gzip", "bzip2", "zstd", "zip"]
ENDINGS = (".gz", ".bz2", ".zst", ".zip")
"""Of the names of packed files."""

_CHUNK_BYTES = 1024 * 1024
_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second is an archive of nothing
_BLOCK_OF_BZIP2 = (b"1AY&SY", b"\x17rE8P\x90")  # a block, or the end of a file without one
_SPREADSHEETS = {"xl/workbook.xml", "xl/workbook.bin", "content.xml"}
_CLUTTER = ("__MACOSX/", ".DS_Store")


class Unpacked(NamedTuple):
    """A file as it is without its wrapping."""

    path: Path
    packing: Packing | None
    name: str
    """What an archive calls it; empty where nothing does."""


def packing_of(head: bytes) -> Packing | None:
    """Return what a file is wrapped in by its first 16 bytes; a spreadsheet is a zip too."""
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(b"BZh") and head[4:10] in _BLOCK_OF_BZIP2:
        return "bzip2"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    return "zip" if head.startswith(_ZIP) else None


@contextmanager
def unpacked(
    source: Path, folder: Path, most_bytes: int, free_disk_bytes: int | None
) -> Iterator[Unpacked]:
    """Give the content of ``source``: the file itself where it is not packed, else a copy in
    ``folder``, gone when the block ends.

    Raises TooLarge beyond ``most_bytes``, StorageFull, InvalidData where it is damaged, or
    UnsupportedMediaType for an archive of several files.
    """
    with source.open("rb") as file:
        packing = packing_of(file.read(16))
    entry = _only_entry(source) if packing == "zip" else None
    if packing is None or (packing == "zip" and entry is None):
        yield Unpacked(source, None, "")
        return
    path, size = folder / "unpacked", 0
    try:
        with path.open("wb") as out:
            for chunk in _explained(packing, _content(source, packing, entry)):
                size += len(chunk)
                if size > most_bytes:
                    raise too_much(most_bytes)
                out.write(chunk)
                require_room(folder, free_disk_bytes)
        yield Unpacked(path, packing, "" if entry is None else entry)
    finally:
        path.unlink(missing_ok=True)


def _only_entry(source: Path) -> str | None:
    """Return the name of the only file in a zip archive; None where it is a spreadsheet.

    Raises UnsupportedMediaType where there are several, or none that can be read.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            encrypted = any(info.flag_bits & 1 for info in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InvalidData(f"the zip archive is damaged or cut off: {error}") from error
    if _SPREADSHEETS & {*names}:
        return None
    names = [name for name in names if not name.startswith(_CLUTTER[0]) and _CLUTTER[1] not in name]
    if encrypted or len(names) != 1:
        what = "encrypted" if encrypted else f"of {len(names)} files"
        raise UnsupportedMediaType(
            f"this is a zip archive {what}; send one table, plain or alone in its archive"
        )
    return names[0]


def content_of(source: Path, entry: str) -> Iterator[bytes]:
    """Yield a file of a zip archive in chunks. Raises InvalidData where it is damaged."""
    return _explained("zip", _content(source, "zip", entry))


def _content(source: Path, packing: Packing, entry: str | None) -> Iterator[bytes]:
    if packing == "gzip":
        with source.open("rb") as file:
            yield from _gunzipped(file)
    elif packing == "bzip2":
        with bz2.open(source) as file:
            yield from iter(lambda: file.read(_CHUNK_BYTES), b"")
    elif packing == "zstd":
        with pa.OSFile(str(source)) as raw, pa.CompressedInputStream(raw, "zstd") as stream:
            yield from iter(lambda: stream.read(_CHUNK_BYTES), b"")
    else:
        assert entry is not None
        with zipfile.ZipFile(source) as archive, archive.open(entry) as file:
            yield from iter(lambda: file.read(_CHUNK_BYTES), b"")


def _explained(packing: Packing, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks. Raises InvalidData for what the libraries call damaged."""
    try:
        yield from chunks
    except EOFError as error:
        raise InvalidData(f"the {packing} content is cut off; send it again") from error
    except (
        zlib.error,
        zipfile.BadZipFile,
        NotImplementedError,  # of compression in a zip
        RuntimeError,  # a password is wanted
        pa.ArrowException,
    ) as error:
        raise InvalidData(f"the {packing} content is damaged: {error}") from error
    except OSError as error:  # bz2's; those of the system have a number
        if error.errno not in (None, errno.EINVAL):  # a zip may claim that it begins before itself
            raise
        if packing == "zstd" and "unfinished" in str(error).lower():
            raise InvalidData("the zstd content is cut off; send it again") from error
        raise InvalidData(f"the {packing} content is damaged: {error}") from error


def _gunzipped(file: BinaryIO) -> Iterator[bytes]:
    """Yield chunks of the content; several gzip members in a row are one file, and padding behind
    them, as tape and some tools leave it, is none of it."""
    unpack = zlib.decompressobj(wbits=31)
    while packed := unpack.unconsumed_tail or unpack.unused_data or file.read(_CHUNK_BYTES):
        if unpack.eof:
            if not packed.strip(b"\0"):
                return
            unpack = zlib.decompressobj(wbits=31)
        if chunk := unpack.decompress(packed, _CHUNK_BYTES):
            yield chunk
    if not unpack.eof:
        raise EOFError
