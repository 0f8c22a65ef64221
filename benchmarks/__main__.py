"""Run benchmarks: ``python -m benchmarks [--quick | --tiny] [NAME ...]``."""

import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Annotated

import typer

from benchmarks.harness import Scale, console, shared_servers
from tests.support.server import Process

NAMES = (
    "idle",
    "line",
    "small_jobs",
    "serving",
    "bulk",
    "ingest",
    "history",
    "job_queue",
    "tensors",
    "training",
    "accuracy",
    "coverage",
    "texts",
)
"""All but ``benchmarks.commits``, which needs another checkout."""


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Which: {', '.join(NAMES)}; all by default.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds; ten minutes.")] = False,
    tiny: Annotated[bool, typer.Option("--tiny", help="One small round of each.")] = False,
) -> None:
    """Run benchmarks one after the other; the exit code is 1 if one of them failed."""
    if quick and tiny:
        raise typer.BadParameter("--quick or --tiny, not both")
    scale = Scale.TINY if tiny else Scale.QUICK if quick else Scale.FULL
    if unknown := set(names or ()) - set(NAMES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    Process.forked = tiny  # nothing is measured, so a start need not be a user's
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every server ends with it
    with shared_servers:
        failed = [name for name in names or NAMES if not _succeeds(name, scale)]
    if failed:
        console.print(f"failed: {', '.join(failed)}")
        raise typer.Exit(1)


def _succeeds(name: str, scale: Scale) -> bool:
    """Run one benchmark; print the traceback if it fails, its import included."""
    console.rule(name)
    started = time.monotonic()
    try:
        run: Callable[[Scale], None] = import_module(f"benchmarks.{name}").run
        run(scale)
    except Exception:
        console.print_exception()
        return False
    finally:
        console.print(f"{name} took {time.monotonic() - started:.0f} s\n")
    return True


if __name__ == "__main__":
    typer.run(main)
