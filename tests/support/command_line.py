"""The ``fitserve`` command, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

FITSERVE = Path(sys.executable).with_name("fitserve")


def fitserve(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, without the settings of whoever runs the tests."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FITSERVE_")}
    return subprocess.run(
        [FITSERVE, *arguments],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
