"""Models as ONNX, each made in a child of a fork server of its own: the exporter takes seconds of
Python's lock and hundreds of MB, and is wanted seldom."""

import contextlib
from pathlib import Path

from app.errors import NotApplicable, Unavailable
from app.executors.forkserver import ForkServer

_MODULE = "app.executors.exporting"
_NICENESS = 10
_SECONDS = 300.0
"""How long one model may take."""
EXPORTED, REFUSED = b"exported", b"refused"
"""What the child says before its answer."""


def onnx(folder: Path) -> bytes:
    """Return the model of a published directory as an ONNX file; blocks for seconds.

    Raises NotApplicable where torch cannot export it, Unavailable where the process was ended or
    took too long.
    """
    # the thread that starts the fork server outlives it, as the parent-death signal wants
    server = ForkServer(_MODULE, _NICENESS)
    try:
        child = server.fork()
        child.connection.send_bytes(bytes(folder))
        if not child.connection.poll(_SECONDS):
            raise Unavailable(f"the export took longer than {_SECONDS:.0f} s; try again")
        how, answer = child.connection.recv_bytes(), child.connection.recv_bytes()
        with contextlib.suppress(OSError):
            child.reap()
    except (EOFError, OSError) as error:
        raise Unavailable("the process that exports was ended; try again") from error
    finally:
        server.close()
    if how == REFUSED:
        raise NotApplicable(f"this model has no ONNX file: {answer.decode()}; take format=bundle")
    return answer
