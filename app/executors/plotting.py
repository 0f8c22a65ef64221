"""What a plotting child does: one drawing, with matplotlib, in memory of its own.

The fork server has imported matplotlib and drawn once, so that a child has its fonts at once.
"""

import resource
from multiprocessing.connection import Connection

import numpy as np

from app.ml import plots
from app.ml.drawing import drawing, unpack

_MEMORY_BYTES = 2048 * 1024 * 1024
"""What one drawing may take."""


def warm_up() -> None:
    """Draw something small: the first drawing finds the fonts."""
    points = np.arange(3.0), np.arange(3.0)
    for image in ("png", "svg"):
        plots.draw(drawing("scatter", {"a": (points, "black")}, "a", "x", "y"), image)


def run(connection: Connection) -> None:
    """Draw what comes through ``connection``, and send the image back."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, hard))
    image, count = connection.recv_bytes().decode().split()
    what = unpack([connection.recv_bytes() for _ in range(int(count))])
    connection.send_bytes(plots.draw(what, image))  # type: ignore[arg-type]
