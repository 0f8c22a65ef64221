"""``fitserve demo``: the main path against a real server, as any HTTP client would walk it.

The table is ggplot2's diamonds: price and attributes of 53,940 diamonds (see NOTICE).
"""

import gzip
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.errors import ConfigurationError, FitserveError
from app.settings import load_settings

JOB: dict[str, Any] = {
    "dataset": "diamonds",
    "target": "price",
    "model": {"kind": "mlp", "hidden": [128, 64]},
    "optimizer": {"kind": "adamw", "lr": 0.003},
    "epochs": 60,
    "register_as": "diamonds",
}
_READY_SECONDS = 60
_POLL_SECONDS = 0.15
_STOP_SECONDS = 15

console = Console(highlight=False, soft_wrap=True)


def run(folder: Path) -> None:
    """Walk the whole path; everything it makes lies in ``folder``. Raises FitserveError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make {folder}: {error.strerror}") from error
    with _server(folder) as client:
        _upload(client)
        job = _train(client)
        _draw(client, job, folder)
        _predict(client, job)
    console.print(f"\n[bold]Stopped cleanly.[/] Pictures, data and log: {folder}/")
    _show_curl()


# ---------------------------------------------------------------- the server


@contextmanager
def _server(folder: Path) -> Iterator[httpx.Client]:
    """Start a server on a free port; it is ended with SIGTERM, whatever happens."""
    settings = load_settings()
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    log = folder / "server.log"
    command = [
        sys.executable,
        "-P",
        "-m",
        "app",
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data")],
            stderr=output,
            start_new_session=True,  # a Ctrl-C here must not reach it before we end it
        )
    key = settings.api_key.get_secret_value() if settings.api_key else None
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            _wait_ready(client, process, log)
            console.print(f"[bold]Server[/] ready at {url} (docs at {url}/docs)")
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(_STOP_SECONDS)
    if code != 0:
        raise FitserveError(f"the server ended with exit code {code}; see {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = log.read_text().strip().splitlines() or ["it said nothing"]
            raise FitserveError(f"the server did not start: {lines[-1]}")
        try:
            if client.get("/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise FitserveError(f"the server was not ready after {_READY_SECONDS} s; see {log}")


def _request(client: httpx.Client, method: str, path: str, **options: Any) -> Any:
    """Return the JSON that a request is answered with. Raises FitserveError for a problem."""
    response = client.request(method, path, **options)
    if response.is_error:
        raise FitserveError(f"{method} {path}: {response.json()['detail']}")
    return response.json()


# ---------------------------------------------------------------- the steps


def _upload(client: httpx.Client) -> None:
    table = gzip.decompress((files("app") / "data" / "diamonds.csv.gz").read_bytes())
    dataset = _request(
        client,
        "POST",
        "/v1/datasets",
        params={"name": "diamonds", "replace": "true"},
        content=table,
        headers={"Content-Type": "text/csv"},
    )
    types = ", ".join(f"{column['name']} ({column['type']})" for column in dataset["columns"])
    console.print(f"[bold]Uploaded[/] {dataset['rows']:,} rows: {types}")


def _train(client: httpx.Client) -> Any:
    job = _request(client, "POST", "/v1/jobs", json=JOB)
    split = _request(client, "GET", f"/v1/jobs/{job['id']}/split")
    console.print(
        f"[bold]Training[/] {job['id']} on {split['train']:,} rows, "
        f"{split['validation']:,} to validate, {split['test']:,} to test"
    )
    columns = (
        TextColumn("epoch {task.completed:>3.0f}/{task.total:.0f}"),
        BarColumn(),
        TextColumn("train {task.fields[train]:.4f}  validation {task.fields[validation]:.4f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        nan = float("nan")
        bar = progress.add_task("train", total=JOB["epochs"], train=nan, validation=nan)
        while True:
            job = _request(client, "GET", f"/v1/jobs/{job['id']}")
            if last := job["metrics"]["last"]:
                progress.update(
                    bar,
                    completed=job["progress"]["epoch"],
                    train=last["train_loss"],
                    validation=last["validation_loss"],
                )
            if job["status"] in ("succeeded", "failed", "cancelled"):
                progress.update(bar, total=job["progress"]["epoch"])
                break
            time.sleep(_POLL_SECONDS)
    if job["status"] != "succeeded":
        raise FitserveError(f"the job ended as {job['status']}: {job['error']}")
    if job["progress"]["epoch"] < JOB["epochs"]:
        patience = job["spec"]["early_stopping"]["patience"]
        console.print(f"[bold]Stopped early:[/] no better validation loss for {patience} epochs")
    test, baseline = job["metrics"]["test"], job["metrics"]["baseline"]
    console.print(
        f"[bold]Tested[/] on rows it never saw: mean error ${test['mae']:,.0f} "
        f"(guessing the mean price: ${baseline['mae']:,.0f}), R² {test['r2']:.3f}; "
        f"kept the weights of epoch {job['metrics']['best']['epoch']}"
    )
    return job


def _draw(client: httpx.Client, job: Any, folder: Path) -> None:
    for plot in ("loss", "predictions"):
        path = folder / f"{plot}.png"
        response = client.get(f"/v1/jobs/{job['id']}/plots/{plot}.png").raise_for_status()
        path.write_bytes(response.content)
        console.print(f"[bold]Drew[/] {path}")


def _predict(client: httpx.Client, job: Any) -> None:
    numbers = _request(client, "GET", f"/v1/jobs/{job['id']}/split/test", params={"limit": 3})[
        "rows"
    ]
    rows = [
        _request(client, "GET", "/v1/datasets/diamonds/rows", params={"offset": n, "limit": 1})[
            "rows"
        ][0]
        for n in numbers
    ]
    features = [{k: v for k, v in row.items() if k != "price"} for row in rows]
    answer = _request(client, "POST", "/v1/models/diamonds/predict", json={"rows": features})
    table = Table(title=f"Predictions of {answer['model']}, version {answer['version']}")
    for column in ("carat", "cut", "color", "clarity", "price", "predicted"):
        table.add_column(
            column, justify="left" if column in ("cut", "color", "clarity") else "right"
        )
    for row, predicted in zip(rows, answer["predictions"], strict=True):
        cells = [str(row[name]) for name in ("carat", "cut", "color", "clarity")]
        table.add_row(*cells, f"${row['price']:,}", f"${predicted:,.0f}")
    console.print(table)


def _show_curl() -> None:
    row = {"carat": 0.9, "cut": "Ideal", "color": "E", "clarity": "SI1"}
    row |= {"depth": 61.5, "table": 55, "x": 6.2, "y": 6.2, "z": 3.8}
    base, json_type = "http://127.0.0.1:8000/v1", "-H 'Content-Type: application/json'"
    lines = [
        "make serve   # then, in another terminal:",
        f"gunzip -c {files('app') / 'data' / 'diamonds.csv.gz'} | \\\n"
        f"  curl -H 'Content-Type: text/csv' --data-binary @- '{base}/datasets?name=diamonds'",
        f"curl {json_type} -H 'Prefer: wait=60' {base}/jobs \\\n  -d '{json.dumps(JOB)}'",
        f"curl {json_type} {base}/models/diamonds/predict \\\n  -d '{json.dumps({'rows': [row]})}'",
    ]
    console.print("\n[bold]The same by hand:[/]\n")
    for line in lines:
        console.print(line + "\n", markup=False)
