"""MLflow: a pyfunc model, saved, then what ``mlflow models serve`` starts.

Without a signature, whose check of every request would be two fifths of its CPU time.
"""

import os
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import mlflow.pyfunc
from mlflow.pyfunc import scoring_server

from benchmarks.serving_peers import by_mlflow, forward


class Regression(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        self.model = forward.load(context.artifacts["weights"])

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        # Without hints, which MLflow would read as a schema of their own.
        return forward.answer(self.model, model_input[forward.NAMES].to_numpy())


def save(folder: Path) -> None:
    mlflow.pyfunc.save_model(
        folder,
        python_model=by_mlflow.Regression(),  # by its importable name, not as of __main__
        artifacts={"weights": os.environ["SERVING_WEIGHTS"]},
        pip_requirements=[],
    )


if __name__ == "__main__":
    model = Path(mkdtemp(dir=os.environ["SERVING_FOLDER"])) / "model"
    save(model)
    host = "127.0.0.1"
    arguments, environment = scoring_server.get_cmd(str(model), forward.PORT, host, None, 1)
    quiet = ["--no-access-log", "--log-level", "warning"]
    os.execve(sys.executable, [sys.executable, "-m", *arguments.split(), *quiet], environment)
