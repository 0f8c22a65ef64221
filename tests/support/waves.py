"""A job of many epochs and checkpoints, and what two runs of it are compared by."""

import hashlib

from tests.support.server import Json, Server

JOB: Json = {
    "dataset": "waves",
    "target": "y",
    "model": {"kind": "mlp", "hidden": [32, 32], "dropout": 0.3, "norm": "batch"},
    "optimizer": {"kind": "adamw", "lr": 0.003},
    "scheduler": "cosine",
    "batch_size": 32,
    "epochs": 60,
    "early_stopping": {"patience": 40},
    "checkpoint": {"every_seconds": 0.05, "keep": 2},
}


def waves(server: Server) -> None:
    """Make the dataset of that job."""
    source = {"kind": "synthetic", "generator": "regression", "rows": 1500, "seed": 3}
    server.ok("POST", "/v1/datasets", json={"name": "waves", "source": source})


def outcome(server: Server, job: Json) -> tuple[str, Json]:
    """The hash of the weights, and the whole history."""
    assert job["status"] == "succeeded", job["error"]
    weights = server.client.get(f"/v1/models/{job['model']['ref']}/download")
    assert weights.status_code == 200
    history = server.ok("GET", f"/v1/jobs/{job['id']}/metrics")
    return hashlib.sha256(weights.content).hexdigest(), history
