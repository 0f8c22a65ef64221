"""Request lines: whole, in order, in both styles, and none lost that was not told."""

import io
import json
import sys

import pytest

from app import access_log
from app.access_log import AccessLog


def written(monkeypatch: pytest.MonkeyPatch, style: str, count: int) -> list[str]:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log = AccessLog(style)
    for number in range(count):
        log.add("GET", f"/v1/jobs/{number}", 200, 0.0123, f"id-{number}")
    log.flush()
    return stream.getvalue().splitlines()


def test_lines_are_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = written(monkeypatch, "console", 5000)
    assert [line.split("path=")[1].split()[0] for line in lines] == [
        f"/v1/jobs/{number}" for number in range(5000)
    ]
    assert lines[7].endswith("request_id=id-7 status=200")
    assert "ms=12.30" in lines[7]


def test_lines_for_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = written(monkeypatch, "json", 1)
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "event": "request",
        "level": "info",
        "logger": "http",
        "method": "GET",
        "ms": 12.3,
        "path": "/v1/jobs/0",
        "request_id": "id-0",
        "status": 200,
    }


def test_what_is_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log = AccessLog("console")
    with log._writing:  # as if standard error took nothing
        for number in range(access_log._MOST_LINES + 7):
            log.add("GET", "/livez", 200, 0.0, str(number))
    log.flush()
    assert "7 lines of requests were lost" in stream.getvalue()


def test_a_path_cannot_make_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log = AccessLog("console")
    log.add("GET", "/a\nb c", 404, 0.0, "x")
    log.flush()
    assert len(stream.getvalue().splitlines()) == 1
