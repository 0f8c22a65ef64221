"""What a parsing child does: files to tables, one after the other, under a memory limit.

It imports neither torch nor anything that trains, so that it is small and quick to fork; a file
that makes it fail takes nothing with it.
"""

import contextlib
import resource
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app import errors
from app.errors import FieldError, FitserveError
from app.ml.tables.ingest import Limits, Options, Summary, ingest
from app.storage import explain_os_errors

_REUSED_BELOW_BYTES = 192 * 1024 * 1024
"""Memory up to which a child may read another file."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class ParseTask(_Message):
    """One file to read and where its table goes; both on the data disk."""

    source: Path
    folder: Path
    options: Options
    limits: Limits
    memory_bytes: int


class Parsed(_Message):
    """The answer where the table is in its folder."""

    type: Literal["parsed"] = "parsed"
    rows: int
    columns: list[dict[str, Any]]
    warnings: list[str]
    reading: dict[str, Any] = {}
    reusable: bool
    """Whether the child has stayed small enough to read another file."""

    def summary(self) -> Summary:
        """Return the stored table in brief."""
        return Summary(self.rows, self.columns, self.warnings, self.reading)


class Refused(_Message):
    """The answer where something was wrong: one of our errors, ``kind`` its class."""

    type: Literal["refused"] = "refused"
    kind: str
    detail: str
    places: list[FieldError] = []
    reusable: bool

    def error(self) -> FitserveError:
        """Return the error, to be raised where the file was sent."""
        kind: type[FitserveError] = getattr(errors, self.kind)
        return kind(self.detail, self.places)


Reply = Annotated[Parsed | Refused, Field(discriminator="type")]
REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)


def run(connection: Connection) -> None:
    """Answer every task that comes through ``connection`` until it closes."""
    if not connection.poll():
        with contextlib.suppress(OSError, FitserveError):  # there may be no room to rehearse in
            _rehearse()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            task = ParseTask.model_validate_json(connection.recv_bytes())
            connection.send_bytes(REPLY.dump_json(_reply(task)))


def _reply(task: ParseTask) -> Reply:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (task.memory_bytes, hard))
    pa.set_cpu_count(task.limits.threads)
    try:
        with explain_os_errors():
            found = ingest(task.source, task.folder, task.options, task.limits)
    except FitserveError as error:
        return _refused(type(error), error.detail, error.errors)
    except MemoryError:  # Arrow's is one
        return _refused(
            errors.TooLarge,
            f"reading the file takes more than {task.memory_bytes >> 20} MiB of memory; send it "
            "in parts, or raise FITSERVE_PARSE_MEMORY_BYTES",
            reusable=False,
        )
    except Exception as error:  # a reader that fails in a way nobody thought of
        with contextlib.suppress(OSError):  # a log on a full disk
            traceback.print_exc()
        detail = f"the file cannot be read: {error}"[:500]
        return _refused(errors.InvalidData, detail, reusable=False)
    return Parsed(**vars(found), reusable=_is_small())


def _refused(
    kind: type[FitserveError],
    detail: str,
    places: Sequence[FieldError] = (),
    *,
    reusable: bool = True,
) -> Refused:
    return Refused(
        kind=kind.__name__,
        detail=detail,
        places=list(places),
        reusable=reusable and _is_small(),
    )


def _is_small() -> bool:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < _REUSED_BELOW_BYTES


def _rehearse() -> None:
    """Read a tiny file while there is nothing else to do: the first run of anything is slow."""
    with TemporaryDirectory(prefix="fitserve-") as folder:
        source, into = Path(folder) / "rehearsal.csv", Path(folder) / "table"
        into.mkdir()
        rows = [f"{i},{i / 2},{'ab'[i % 2]},2026-11-23,true" for i in range(10)]
        source.write_text("\n".join(["a,b,c,d,e", *rows]))
        ingest(source, into, Options(format="csv"), Limits(decoded_bytes=1 << 20))
