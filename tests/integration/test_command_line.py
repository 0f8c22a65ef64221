"""The ``fitserve`` command as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.__main__ import main
from app.cli import demo
from app.settings import unknown_settings
from tests.support.command_line import FITSERVE, fitserve
from tests.support.server import PATIENCE, free_port
from tests.support.soak import rounds


@pytest.mark.parametrize("command", [(), ("serve",), ("migrate",), ("demo",)])
def test_help_teaches(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = fitserve(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_version(tmp_path: Path) -> None:
    assert fitserve("--version", cwd=tmp_path).stdout.startswith("fitserve ")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory to run the command in within this process, which gets its signals back."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FITSERVE_")]:
        monkeypatch.delenv(name)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("serve", "--host", "0.0.0.0"), {}, "FITSERVE_API_KEY"),
        (("serve", "--host", "::"), {}, "FITSERVE_API_KEY"),
        (("serve", "--host", "0.0.0.0"), {"FITSERVE_API_KEY": " "}, "FITSERVE_API_KEY"),
        (("serve",), {"FITSERVE_HOST": "10.0.0.1"}, "FITSERVE_API_KEY"),
        (("serve",), {"FITSERVE_PORT": "abc"}, "FITSERVE_PORT"),
        (("serve",), {"FITSERVE_MAX_PARALLEL_JOBS": "0"}, "FITSERVE_MAX_PARALLEL_JOBS"),
        (("migrate",), {"FITSERVE_DATA_DIR": "/dev/null/x"}, "/dev/null"),
    ],
)
def test_wrong_configuration_exits_78_with_the_remedy_in_one_line(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    said: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["fitserve", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 78
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert list(here.iterdir()) == [], "nothing may be left behind"


def test_wrong_configuration_is_the_exit_code_of_the_command(tmp_path: Path) -> None:
    done = fitserve("serve", "--host", "0.0.0.0", cwd=tmp_path)
    assert done.returncode == 78, done.stderr
    assert "FITSERVE_API_KEY" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [], "nothing may be left behind"


def test_a_misspelt_setting_is_told_of_the_right_one(here: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("FITSERVE_PROT", "8001")
    monkeypatch.setenv("FITSERVE_COLOUR", "red")
    assert unknown_settings() == {"FITSERVE_COLOUR": None, "FITSERVE_PROT": "FITSERVE_PORT"}


def test_a_taken_port_is_said_and_nothing_is_imported_from_here(tmp_path: Path) -> None:
    for name in ("app", "torch", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the wrong place')")
    port = free_port()
    running = subprocess.Popen(
        [FITSERVE, "serve", "--port", str(port)], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    try:
        _wait(port)
        other = tmp_path / "other"
        other.mkdir()
        done = fitserve("serve", "--port", str(port), cwd=other)
        assert done.returncode == 78
        assert "--port" in done.stderr
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE) == 0, "Ctrl-C is a clean end"
    finally:
        running.kill()
        running.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("not ready")


def test_demo_shows_the_whole_path(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time on what the first has left; that and all epochs are for `make soak`."""
    monkeypatch.setitem(demo.JOB, "epochs", rounds(2, demo.JOB["epochs"]))
    for version in range(1, rounds(2, 3)):
        demo.run(here / "fitserve-demo")
        said = capsys.readouterr().out
        assert f"version {version}" in said
        assert said.count("curl") == 3
    for picture in ("loss.png", "predictions.png"):
        assert (here / "fitserve-demo" / picture).read_bytes().startswith(b"\x89PNG")
