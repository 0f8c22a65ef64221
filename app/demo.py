"""placeholder while the demo is written"""

from pathlib import Path


def run(data_dir: Path) -> None:
    """Later."""
