"""Training children that take one task after the other: when they do, and that nobody can tell."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import torch

from app.executors import local, training
from app.executors.local import LocalExecutor, LocalHandle
from app.ids import new_id
from app.ml.training.events import Event, TrainEnded, TrainFailed, TrainStopped, TrainTask
from tests.support.server import LONG_JOB, PATIENCE
from tests.support.soak import soak_only
from tests.support.workbench import LINE_REQUEST, Run, Workbench, table_of

ROWS = 120
TABLE = table_of(
    {
        "x": [i / ROWS for i in range(ROWS)],
        "z": [(i * 37 % ROWS) / ROWS if i % 9 else None for i in range(ROWS)],
        "k": ["abcdefg"[i * i % 7] for i in range(ROWS)],
        "y": [0.7 * i / ROWS + (i * 31 % 11) / 20 for i in range(ROWS)],
        "c": ["no" if i % 3 else "yes" for i in range(ROWS)],
    }
)
JOBS: dict[str, dict[str, Any]] = {
    "line": {**LINE_REQUEST},
    "dropout": {"target": "y", "model": {"kind": "mlp", "hidden": [16, 8], "dropout": 0.3}},
    "tabular": {"target": "c", "features": ["x", "z", "k"]},
    "sequential": {
        "target": "c",
        "model": {"kind": "sequential", "layers": ["BatchNorm1d", "ReLU", "Linear"]},
        "optimizer": "sgd",
    },
    "averaged": {"target": "y", "model": "mlp", "ema_decay": 0.9, "batch_size": 16},
    "another seed": {"target": "y", "model": {"kind": "mlp", "dropout": 0.5}, "seed": 7},
}


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    made = LocalExecutor()
    made.prepare()
    yield made
    made.close()


def followed(handle: LocalHandle) -> list[Event]:
    """All events of a task, which has ended."""
    found: list[Event] = []
    deadline = time.monotonic() + PATIENCE
    while not any(isinstance(e, TrainEnded | TrainFailed | TrainStopped) for e in found):
        assert time.monotonic() < deadline
        more = handle.events(0.1)
        if more is None:
            break
        found += more
    handle.end()
    return found


def pid_of(handle: LocalHandle) -> int:
    return handle._child.pid


def trained(executor: LocalExecutor, task: TrainTask) -> tuple[int, list[Event]]:
    """In which process, and what it told."""
    executor.prepare()
    handle = executor.start(task)
    return pid_of(handle), followed(handle)


def task_of(workbench: Workbench, name: str, table: pa.Table = TABLE, **changes: Any) -> TrainTask:
    asked = {"epochs": 4, "early_stopping": None, **JOBS[name], **changes}
    return workbench.task(table, **asked)


def gone(pid: int) -> bool:
    """Whether the process has ended, as one does that takes no other task: its last thread too,
    which holds its files until then."""
    deadline = time.monotonic() + PATIENCE
    while _threads(pid) > 1 or (_threads(pid) and psutil.Process(pid).status() != "zombie"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _threads(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except FileNotFoundError:
        return 0


@soak_only
def test_used_children_train_what_new_ones_do(
    workbench: Workbench, executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every job in a child of its own, and then all of them in one, in both directions."""
    tasks = {name: task_of(workbench, name) for name in JOBS}
    fresh, pids = {}, set()
    with monkeypatch.context() as patched:
        patched.setattr(local, "_REST_SECONDS", -1.0)
        for name, task in tasks.items():
            pid, events = trained(executor, task)
            fresh[name] = Run(task, workbench.storage, events)
            pids.add(pid)
        executor.prepare()
    assert len(pids) == len(JOBS)
    pids.clear()
    for name in [*JOBS, *reversed(JOBS)]:
        task = tasks[name].model_copy(update={"model_id": new_id("mdl")})
        pid, events = trained(executor, task)
        again = Run(task, workbench.storage, events)
        pids.add(pid)
        assert again.weights_sha256 == fresh[name].weights_sha256, name
        assert again.epochs == fresh[name].epochs, name
        assert again.ended == fresh[name].ended, name
    assert len(pids) <= 3, "nothing was tested"  # a busy machine takes the spare now and then


def test_the_random_state_is_as_it_was() -> None:
    """What is drawn before a seed is set, if somebody ever does that."""
    before = torch.get_rng_state()
    fresh = training._Fresh()
    torch.rand(3)
    assert fresh.restored()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("how", ["failed", "stopped", "several threads"])
def test_some_tasks_are_a_childs_last(
    workbench: Workbench, executor: LocalExecutor, how: str
) -> None:
    if how == "failed":
        task = task_of(workbench, "line", optimizer={"kind": "sgd", "lr": 1e30}, loss="mse")
        pid, events = trained(executor, task)
        assert isinstance(events[-1], TrainFailed)
    elif how == "stopped":
        handle = executor.start(task_of(workbench, "dropout", epochs=LONG_JOB["epochs"]))
        pid = pid_of(handle)
        handle.stop("cancel")
        assert isinstance(followed(handle)[-1], TrainStopped)
    else:
        pid, events = trained(executor, task_of(workbench, "line", threads=2))
        assert isinstance(events[-1], TrainEnded)
    assert gone(pid)
    after, events = trained(executor, task_of(workbench, "line"))
    assert after != pid
    assert isinstance(events[-1], TrainEnded)


def test_one_that_was_asked_to_stop_too_late_takes_no_other(
    workbench: Workbench, executor: LocalExecutor
) -> None:
    """Else it would take the word for its next task."""
    handle = executor.start(task_of(workbench, "line"))
    found: list[Event] = []
    while not any(isinstance(event, TrainEnded) for event in found):
        found += handle.events(0.1) or []
    handle.stop("cancel")
    handle.end()
    assert gone(pid_of(handle))
    assert isinstance(trained(executor, task_of(workbench, "line"))[1][-1], TrainEnded)


def test_one_that_is_killed_while_it_waits_costs_nothing(
    workbench: Workbench, executor: LocalExecutor
) -> None:
    for _ in range(3):
        pid, _ = trained(executor, task_of(workbench, "line"))
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)  # one that takes the task and dies then is tried again by its job
        assert isinstance(trained(executor, task_of(workbench, "line"))[1][-1], TrainEnded)


def test_one_that_waits_in_vain_is_let_go_of(
    workbench: Workbench, executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, _ = trained(executor, task_of(workbench, "line"))
    monkeypatch.setattr(local, "_REST_SECONDS", 0.0)
    executor.prepare()
    assert gone(pid)


@pytest.mark.parametrize("limit", ["_MOST_TASKS", "_OLDEST_SECONDS", "_MOST_GROWN_BYTES"])
def test_a_child_ends_at_its_limits(workbench: Workbench, limit: str) -> None:
    """``run`` itself, in a process of its own that has the limit of one task."""
    ours, theirs = multiprocessing.Pipe()
    value = {"_MOST_TASKS": 1, "_OLDEST_SECONDS": 0.0, "_MOST_GROWN_BYTES": -(1 << 40)}[limit]
    process = multiprocessing.get_context("fork").Process(
        target=_run_limited, args=(theirs, limit, value)
    )
    process.start()
    theirs.close()
    ours.send_bytes(task_of(workbench, "line").model_dump_json().encode())
    process.join(PATIENCE)  # what it says fits into the pipe
    said = []
    while ours.poll():
        try:
            said.append(ours.recv_bytes())
        except EOFError:
            break
    assert b'"ended"' in said[-1]
    assert local.IDLE not in said
    assert process.exitcode == 0


def _run_limited(connection: Any, limit: str, value: float) -> None:
    setattr(training, limit, value)
    training.run(connection)
