"""This checkout against another commit's: ``python -m benchmarks.commits CHECKOUT``.

Both servers run at once, from this interpreter, each with its checkout as working directory and a
data directory of its own; one at a time works, and who is first changes from pair to pair. The
other checkout is a plain folder, such as ``git worktree add --detach FOLDER COMMIT`` makes; what it
needs has to be installed here.

Measured are a straight-line job over HTTP with and without making its dataset, single predictions,
and the training of a multilayer perceptron. Ratios are speeds, ours over theirs: above 1 this
checkout is the quicker one. Target: at least 0.95.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks import serving, training
from benchmarks.harness import Scale, console, milliseconds, rounds, running_server, table
from benchmarks.line import PAUSE_SECONDS
from benchmarks.load import Endpoint, require_wrk
from tests.support.server import LINE_JOB, Server


@dataclass(frozen=True)
class Size:
    pairs: int
    line_jobs: int
    """Whose median is one side of a pair."""
    load_seconds: float
    training: training.Size


SIZE = Size(15, line_jobs=5, load_seconds=3, training=training.SIZES[Scale.FULL])


@dataclass(frozen=True)
class Side:
    """One of the two commits, with its server running."""

    server: Server
    line_id: str
    """Of a straight line's dataset."""
    endpoint: Endpoint
    folder: Path
    size: Size

    def line(self) -> float:
        """Return the milliseconds from POST to ``succeeded``."""
        return self._line(lambda: self.line_id)

    def line_with_dataset(self) -> float:
        """Return the milliseconds from the dataset's POST to ``succeeded``."""
        return self._line(lambda: new_line(self.server))

    def _line(self, dataset_id: Callable[[], str]) -> float:
        def job() -> None:
            self.server.train(**{**LINE_JOB, "dataset": dataset_id()})

        times = []
        for _ in range(self.size.line_jobs):
            time.sleep(PAUSE_SECONDS)
            times.append(milliseconds(job))
        return median(times)

    def predictions(self) -> float:
        """Return the requests/s of ``load.CONNECTIONS`` connections."""
        return self.endpoint.load(self.folder, self.size.load_seconds).per_second

    def prediction(self) -> float:
        """Return the median milliseconds of one request on one connection."""
        return self.endpoint.load(self.folder, self.size.load_seconds, connections=1).p50_ms

    def training(self) -> float:
        """Return the samples/s of one job."""
        return training.by_service(self.server, self.size.training, self.size.training.epochs)


@dataclass(frozen=True)
class Measure:
    """What is compared."""

    name: str
    of: Callable[[Side], float]
    digits: int
    is_duration: bool

    def speed(self, ours: float, theirs: float) -> float:
        """Return how many times as quick ours is."""
        return theirs / ours if self.is_duration else ours / theirs


MEASURES = (
    Measure("straight line, POST to succeeded (ms)", Side.line, 1, True),
    Measure("the same with its dataset (ms)", Side.line_with_dataset, 1, True),
    Measure("predictions, 16 connections (requests/s)", Side.predictions, 0, False),
    Measure("prediction, one connection, p50 (ms)", Side.prediction, 3, True),
    Measure("MLP 64-64, a whole job (samples/s)", Side.training, 0, False),
)


def new_line(server: Server) -> str:
    """Make a dataset of a straight line; return its id."""
    return str(server.line(name=f"line-{time.monotonic_ns()}")["id"])


def running_in(checkout: Path, folder: Path) -> Server:
    """Return a server that starts from the checkout; ``with`` it."""
    with contextlib.chdir(checkout):  # `python -m app` takes the app of its working directory
        return Server(folder / "data", **serving.FITSERVE)


def side_of(server: Server, folder: Path, size: Size) -> Side:
    """Put into the server what will be measured, and measure it once to warm up."""
    serving.train(server)
    training.upload(server, size.training.rows)
    endpoint, *_ = serving.of_fitserve(server)
    endpoint.prediction()  # loads the model
    side = Side(server, new_line(server), endpoint, folder, size)
    for measure in MEASURES[:-1]:
        measure.of(side)
    return side


def compare(checkout: Path, size: Size) -> None:
    """Alternate this checkout with the other one; print medians and ratios."""
    here = Path.cwd()
    rows = table(
        f"{commit(here)} (ours) against {commit(checkout)} (theirs), {size.pairs} pairs (medians)",
        *("", "ours", "theirs", "ratio of medians", "median ratio of pairs", "lowest", "highest"),
    )
    with (
        TemporaryDirectory() as name,
        running_server(Scale.FULL, **serving.FITSERVE) as our_server,
        running_in(checkout, Path(name)) as their_server,
    ):
        ours, theirs = (side_of(server, Path(name), size) for server in (our_server, their_server))
        for measure in MEASURES:
            pairs = []
            for turn in rounds(size.pairs, measure.name):
                if turn % 2:
                    other = measure.of(theirs)
                    pairs.append((measure.of(ours), other))
                else:
                    own = measure.of(ours)
                    pairs.append((own, measure.of(theirs)))
            medians = [median(column) for column in zip(*pairs, strict=True)]
            ratios = [measure.speed(*pair) for pair in pairs]
            figures = [measure.speed(*medians), median(ratios), min(ratios), max(ratios)]
            cells = [f"{value:,.{measure.digits}f}" for value in medians]
            rows.add_row(measure.name, *cells, *(f"{figure:.3f}" for figure in figures))
            console.print(f"{measure.name}: {' against '.join(cells)}, {figures[1]:.3f}")
    console.print(rows)


def commit(checkout: Path) -> str:
    """Return the short hash of what is checked out, with a + where files differ from it."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--exclude=*", "--dirty=+"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main(
    checkout: Annotated[Path, typer.Argument(exists=True, file_okay=False, resolve_path=True)],
    pairs: Annotated[int, typer.Option(min=1)] = SIZE.pairs,
) -> None:
    """Compare this checkout with another one."""
    require_wrk(Scale.FULL)
    compare(checkout, replace(SIZE, pairs=pairs))


if __name__ == "__main__":
    typer.run(main)
