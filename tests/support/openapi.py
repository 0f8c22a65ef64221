"""The committed OpenAPI document: ``python -m tests.support.openapi`` rewrites it."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.api.app import create_api
from app.db.session import Database
from app.executors.parsers import Parsers
from app.runtime.context import Context
from app.settings import load_settings
from app.storage import Storage

SNAPSHOT = Path(__file__).parents[1] / "api" / "openapi.json"


def document() -> dict[str, Any]:
    """What the application says of itself; nothing is started or stored."""
    with TemporaryDirectory() as folder:
        storage = Storage(Path(folder))
        settings = load_settings()
        parsers = Parsers(settings.parse_memory_bytes, settings.parse_seconds)
        context = Context(settings, storage, Database(storage.database_path), parsers)
        return create_api(context, lambda: True).openapi()


def render(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(render(document()))
