"""Requests that Schemathesis makes up from the document: every answer is one that it promises."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.server import LINE_JOB, Server
from tests.support.soak import SOAK, rounds

_ROOT = Path(__file__).parents[2]
_HOOKS = "tests.support.schemathesis_hooks"
STREAM = "stream_job_events"
"""It ends with its job, and Schemathesis reads answers to their end."""
_WITHOUT_JOBS = """
[[operations]]
include-operation-id = "create_job"
[operations.phases.coverage]
enabled = false
"""
"""A job may be said in so many ways that half of all the cases are of it; `make soak` has them."""
SEMANTICS = "positive_data_acceptance"
"""A schema cannot say which columns a table has, or that a confusion is not of a regression."""


def test_every_answer_is_promised(data_dir: Path) -> None:
    with Server(data_dir, FITSERVE_DEFAULT_MODEL="line", FITSERVE_LOG_LEVEL="warning") as server:
        server.line()
        server.train(**LINE_JOB)
        command = [str(Path(sys.executable).with_name("schemathesis")), "--no-color"]
        if not SOAK:
            (data_dir / "schemathesis.toml").write_text(_WITHOUT_JOBS)
            command += ["--config-file", str(data_dir / "schemathesis.toml")]
        command.append("run")
        command += [f"{server.url}/openapi.json", "--seed", "1", "--request-timeout", "70"]
        command += ["--max-examples", str(rounds(1, 100)), "--exclude-checks", SEMANTICS]
        command += ["--phases", "examples,coverage,fuzzing,stateful"]
        command += ["--exclude-operation-id", STREAM]
        env = {**os.environ, "PYTHONPATH": str(_ROOT), "SCHEMATHESIS_HOOKS": _HOOKS}
        done = subprocess.run(command, capture_output=True, text=True, cwd=data_dir, env=env)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-1000:]
        print(done.stdout[-300:])
        assert "Traceback" not in server.log.read_text()
