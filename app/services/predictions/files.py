"""Tables of any length through a model, piece by piece: memory holds a few pieces at a time.

The answer is collected in a file before any of it is sent: a client need not read while it sends
(few do), and what turns out to be wrong in the last row is still an error with its place.
"""

import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, ParamSpec, TypeVar, cast

import orjson
import pyarrow as pa

from app.errors import TooLarge
from app.ml.column_types.fitted import Matrix
from app.ml.column_types.notations.notation import OnError
from app.ml.features.encoder import ROWS_AT_ONCE
from app.ml.features.feature_tables import FeatureTables, no_rows
from app.ml.tables import arrow_files, parquet
from app.ml.tables.csv_writer import CSVWriter
from app.ml.tables.ingest import Options
from app.runtime.context import Context
from app.services.datasets import creation
from app.services.predictions.requests import limit_rows
from app.services.predictions.resolver import LoadedModel
from app.storage import explain_os_errors

if TYPE_CHECKING:
    from app.ml.inference.card import Card
    from app.ml.inference.predictor import Predictor

P = ParamSpec("P")
R = TypeVar("R")
OutputType = Literal["application/json", "text/csv", "application/vnd.apache.arrow.stream"]
JSON: OutputType = "application/json"
CSV: OutputType = "text/csv"
ARROW: OutputType = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True)
class OutputFormat:
    """How predictions are written."""

    media_type: OutputType = JSON
    probabilities: bool = False
    level: float | None = None
    """Of the intervals, or the sets of classes, that are answered too."""
    bare: bool = False
    """JSON with nothing but the predictions, as MLflow has it."""

    def row_bytes(self, model: LoadedModel) -> int:
        """Return about how many bytes a row of an answer has at most."""
        all_labels = self.probabilities or self.level is not None
        return model.predictor.row_bytes(all_labels=all_labels)


_MOST_STEPS = 8
"""Of ``ROWS_AT_ONCE`` rows, in a piece of a narrow table."""
_PIECE_BYTES = 1024 * 1024
"""Of an answer, made at once."""
_PIECE_CELLS = 8 * 1024 * 1024
"""Numbers in a piece as the model reads it: 32 MiB of float32; a wide one has fewer rows."""
_MEMORY_BYTES = 4 * 1024 * 1024
"""Of an answer; what is longer goes to the disk."""


def releases_tables(work: Callable[P, R]) -> Callable[P, R]:
    """Have the frames of an error that leaves ``work``, and of its causes, cleared of the tables in
    them.

    They are mapped or read from open files, and an error that crosses to the event loop is part of
    a cycle (the waiting frame holds the future, which holds the error): the disk would keep the
    file of a request that failed until cycles are collected.
    """

    @wraps(work)
    def done(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return work(*args, **kwargs)
        except Exception as error:
            cause: BaseException | None = error
            seen: set[int] = set()  # nothing keeps causes from forming a circle
            while cause is not None and id(cause) not in seen:
                seen.add(id(cause))
                traceback.clear_frames(cause.__traceback__)
                cause = cause.__cause__ or cause.__context__
            raise

    return done


def as_trained(options: Options, card: "Card", on_error: OnError | None) -> Options:
    """Return ``options`` of a file whose cells are read as those were that the model of ``card``
    was trained on; ``on_error`` is what becomes of one that cannot be, where a client says it."""
    asked = {} if on_error is None else {"on_error": on_error}
    known = {"notations": card.notations, "cells": card.cells.model_copy(update=asked)}
    return options.model_copy(update=known)


@releases_tables
def predict_file(
    context: Context,
    model: LoadedModel,
    path: Path,
    options: Options,
    output_format: OutputFormat,
    tables: FeatureTables,
) -> BinaryIO:
    """Return the predictions for a file whose columns ``tables`` takes, as an open file at its end.

    Blocks. Raises InvalidInput of any kind, StorageFull or Unavailable.
    """
    with _pieces(context, model.predictor, path, options, tables) as (rows, pieces):
        limit_rows(rows, context.settings.max_predict_rows, "")
        outputs = _outputs(context, model.predictor, pieces, tables)
        return write_predictions(context, model, outputs, output_format)


def write_predictions(
    context: Context, model: LoadedModel, outputs: Iterator[Matrix], output_format: OutputFormat
) -> BinaryIO:
    """Return the predictions of a model's outputs, pieces of ``(rows, outputs)``, as an open file
    at its end.

    Raises InvalidRequest, TooLarge (JSON, which says labels again in every row) or StorageFull.
    """
    outputs = _in_steps(context, outputs, max(1, _PIECE_BYTES // output_format.row_bytes(model)))
    spooled = tempfile.SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115  # it is given away
    file = cast(BinaryIO, spooled)
    try:
        with explain_os_errors():
            if output_format.media_type == JSON:
                _json(model, outputs, output_format, file, context.settings.max_decoded_bytes)
            else:
                _tables(_WRITERS[output_format.media_type], model, outputs, output_format, file)
            file.flush()
    except BaseException:
        with suppress(OSError):  # it writes what it has not written; nobody needs that
            file.close()
        raise
    return file


# ---------------------------------------------------------------- in


@contextmanager
def _pieces(
    context: Context,
    predictor: "Predictor",
    path: Path,
    options: Options,
    tables: FeatureTables,
) -> Iterator[tuple[int, Iterator[pa.Table]]]:
    """Give the number of rows in the file, and its columns in pieces.

    Plain Arrow streams are read as they are; other files by the process that reads uploads, which
    gives them the features' types.
    """
    width = max(1, predictor.card.preprocessing.features.width)
    rows = ROWS_AT_ONCE * min(max(1, _PIECE_CELLS // (ROWS_AT_ONCE * width)), _MOST_STEPS)
    if options.format == "arrow" and arrow_files.is_plain(path):
        with arrow_files.stream(path, rows, context.settings.max_decoded_bytes) as stream:
            tables.check_columns(stream.names)
            yield stream.rows, stream.pieces
        return
    with TemporaryDirectory(dir=context.storage.scratch) as folder:
        limits = creation.parse_limits(context, path.stat().st_size)
        features = predictor.card.preprocessing.features
        known = {"types": features.types, "bounds": features.bounds, "predicts": True}
        known["nested"] = tables.nested
        typed = options.model_copy(update=known)
        found = context.parsers.parse(path, Path(folder), typed, limits)
        table = Path(folder) / parquet.FILE
        tables.check_columns(parquet.names(table))
        yield found.rows, parquet.cut(parquet.groups(table, tables.names), rows)


def _outputs(
    context: Context, predictor: "Predictor", pieces: Iterator[pa.Table], tables: FeatureTables
) -> Iterator[Matrix]:
    rows = 0
    for piece in pieces:
        if rows:  # a large answer is on the disk
            context.require_room()
        with arrow_files.explained("table"):
            table = tables.of_table(piece, rows)
        yield predictor.forward(predictor.encode(table, first_row=rows))
        rows += piece.num_rows
    if not rows:
        raise no_rows()


# ---------------------------------------------------------------- out


def _in_steps(context: Context, outputs: Iterator[Matrix], rows: int) -> Iterator[Matrix]:
    """Yield all outputs, so many rows at a time, while there is room for what is made of them."""
    for part in outputs:
        for start in range(0, len(part), rows):
            if start:
                context.require_room()
            yield part[start : start + rows]


def _json(
    model: LoadedModel,
    outputs: Iterator[Matrix],
    output_format: OutputFormat,
    file: BinaryIO,
    most_bytes: int,
) -> None:
    """Write all predictions, then what is beside them, which waits in files of its own."""
    head = {"object": "predictions", "model": model.name, "version": model.version}
    start = b"{" if output_format.bare else orjson.dumps(head)[:-1] + b","
    file.write(start + b'"predictions":[')
    beside = model.predictor.beside(output_format.probabilities, output_format.level)
    with ExitStack() as stack:
        waiting = {
            name: stack.enter_context(tempfile.SpooledTemporaryFile(_MEMORY_BYTES))
            for name in beside
        }
        comma = b""
        for part in outputs:
            file.write(comma + orjson.dumps(model.predictor.predictions(part))[1:-1])
            for name, of_rows in beside.items():
                waiting[name].write(comma + orjson.dumps(of_rows(part))[1:-1])
            comma = b","
            if file.tell() + sum(later.tell() for later in waiting.values()) > most_bytes:
                raise TooLarge(
                    f"the answer is longer than the {most_bytes >> 20} MiB that JSON may have; "
                    "send fewer rows, or ask for format=arrow, which names each class once"
                )
        for name, later in waiting.items():
            file.write(b'],"%b":[' % name.encode())
            later.seek(0)
            while piece := later.read(_MEMORY_BYTES):
                file.write(piece)
    file.write(b"]}\n")


def _tables(
    start: Callable[[BinaryIO, pa.Schema], Any],
    model: LoadedModel,
    outputs: Iterator[Matrix],
    output_format: OutputFormat,
    file: BinaryIO,
) -> None:
    writer = None
    for part in outputs:
        table = model.predictor.answers(
            part, probabilities=output_format.probabilities, level=output_format.level
        )
        writer = writer or start(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


_WRITERS: dict[OutputType, Callable[[BinaryIO, pa.Schema], Any]] = {
    CSV: CSVWriter,
    ARROW: pa.ipc.new_stream,
}
