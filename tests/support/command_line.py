"""The ``fitserve`` command, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.forked import Forked

FITSERVE = Path(sys.executable).with_name("fitserve")
_SECONDS = 120


def fitserve(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, without the settings of whoever runs the tests."""
    return subprocess.run(
        [FITSERVE, *arguments],
        cwd=cwd,
        env={**_unset(), **environment},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )


def forked(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same in ``/``, forked from a process that has imported everything."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = Forked(arguments, {**_unset(), **environment}, Path("/"), out, err)
        try:
            code = process.wait(_SECONDS)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def _unset() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("FITSERVE_")}
