"""Fixtures of the library's tests."""

from pathlib import Path

import pytest

from tests.support.workbench import Workbench


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    """A storage of its own for one test."""
    return Workbench(tmp_path)
