"""What the benchmarks share: how large a run is, servers, clocks, tables and progress."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.support.server import Server

console = Console(width=None if sys.stdout.isatty() else 120, soft_wrap=True)
MIB_BYTES = 1024 * 1024


class Scale(StrEnum):
    """How large a run is."""

    FULL = "full"
    """What the README's figures come from; an hour."""
    QUICK = "quick"
    """The same tables from fewer rounds; at most ten minutes."""
    TINY = "tiny"
    """One small round of everything, to see that it runs; the figures mean nothing."""


class MissingPeerError(Exception):
    """Something to compare with is not installed."""


def has_peer(scale: Scale, name: str, *, found: bool, remedy: str = "make bench") -> bool:
    """Return whether ``name`` is there to compare with, and print that it is left out.

    Raises MissingPeerError where it is missing from a run that is not tiny: a table without it
    would look complete.
    """
    if found:
        return True
    if scale is not Scale.TINY:
        raise MissingPeerError(f"{name} is not installed ({remedy} installs it)")
    console.print(f"{name}: not installed; skipped")
    return False


def has_module(scale: Scale, name: str) -> bool:
    """Return whether the package ``name`` can be imported; otherwise as ``has_peer``."""
    return has_peer(scale, name, found=find_spec(name) is not None)


@contextmanager
def running_server(scale: Scale, **settings: str) -> Iterator[Server]:
    """Run a server with a data directory of its own and stop it in the end.

    In a tiny run those with the same settings share one of the ``shared_servers``: starts would be
    most of its time.
    """
    if scale is Scale.TINY:
        yield _shared_server(**settings)
    else:
        with _server(**settings) as server:
            yield server


@contextmanager
def _server(**settings: str) -> Iterator[Server]:
    with TemporaryDirectory() as folder, Server(Path(folder) / "data", **settings) as server:
        yield server


shared_servers = ExitStack()
"""Whoever runs benchmarks closes it in the end. At the interpreter's exit it would be too late: the
thread that forks servers is gone before any handler of ``atexit`` runs."""


@cache
def _shared_server(**settings: str) -> Server:
    return shared_servers.enter_context(_server(**settings))


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def milliseconds(work: Callable[[], object]) -> float:
    """Return the wall-clock milliseconds of one call."""
    return 1000 * seconds(work)


def rounds(count: int, what: str) -> Iterable[int]:
    """Count from 0 to ``count`` - 1 beside a progress bar, where there is a terminal."""
    return track(
        range(count), what, console=console, transient=True, disable=not console.is_terminal
    )


def table(title: str, *columns: str) -> Table:
    """Return an empty table: names in its first column on the left, figures on the right."""
    empty = Table(title=title)
    for number, column in enumerate(columns):
        empty.add_column(column, justify="right" if number else "left")
    return empty
