"""What an exporting child does: one model as ONNX, in memory of its own."""

import logging
import resource
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

from app.executors.exporters import EXPORTED, REFUSED
from app.ml.inference import onnx_file

_MEMORY_BYTES = 8 * 1024 * 1024 * 1024
"""What one export may take."""


def run(connection: Connection) -> None:
    """Export the model whose folder comes through ``connection``, and send the file back."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, hard))
    warnings.simplefilter("ignore")  # of torch, about itself
    logging.disable(logging.WARNING)
    folder = Path(connection.recv_bytes().decode())
    try:
        how, answer = EXPORTED, onnx_file.written(folder)
    except Exception as error:
        traceback.print_exc()
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        how, answer = REFUSED, reason.encode()
    connection.send_bytes(how)
    connection.send_bytes(answer)
