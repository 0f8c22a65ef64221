"""A table of every type, a way to send it, and what comes back."""

import io
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.csv as pacsv

from tests.support.files import as_arrow, as_csv, as_ndjson, as_parquet, rows_of
from tests.support.server import PATIENCE, Json, Server

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
JSON = "application/json"
LARGE = 100_000
MOST_ROWS = 50
FORMATS = {CSV: as_csv, NDJSON: as_ndjson, PARQUET: None, ARROW: None}
START = datetime(2026, 1, 1, tzinfo=UTC)

Lists = dict[str, list[Any]]

SHOP: Lists = {
    "size": [i / 10 for i in range(60)],
    "color": ["red", "grün", "blue, or so"] * 20,
    "new": [i % 2 == 0 for i in range(60)],
    "sold": [START + timedelta(hours=7 * i) for i in range(60)],
    "price": [10.0 * i + i % 3 for i in range(60)],
}
"""A training table of every type."""

ASKED: Lists = {
    "size": [1.5, -3.25, 0.1, 1e6, 2.0],
    "color": ["red", "grün", "violet", "blue, or so", "red"],
    "new": [True, False, True, True, False],
    "sold": [START + timedelta(days=i, seconds=i) for i in range(5)],
}
GAPS: Lists = {name: [*values, None] for name, values in ASKED.items()}
"""The same and a row of gaps."""


def left(server: Server) -> list[str]:
    """What is still in the scratch folder; a request that has just been answered may be tidying."""
    deadline = time.monotonic() + PATIENCE
    while (found := [path.name for path in (server.data_dir / "tmp").iterdir()]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.02)
    return found


def media(kind: str, accept: str = JSON) -> dict[str, str]:
    return {"Content-Type": kind, "Accept": accept}


def sent(
    server: Server,
    content: bytes,
    kind: str,
    ref: str = "files",
    accept: str = JSON,
    query: str = "",
) -> httpx.Response:
    path = f"/v1/models/{ref}/predict?{query}"
    return server.client.post(path, content=content, headers=media(kind, accept))


def told(response: httpx.Response) -> Json:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == JSON
    body: Json = response.json()
    return body


def columns_of(response: httpx.Response, accept: str) -> Lists:
    """An answer that is a table."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == accept
    if accept == ARROW:
        table = pa.ipc.open_stream(response.content).read_all()
    else:
        table = pacsv.read_csv(io.BytesIO(response.content))
    found: Lists = table.to_pydict()
    return found


def iso(values: Lists) -> Lists:
    """As JSON has them."""
    told = [
        value.isoformat().replace("+00:00", "Z") if value is not None else None
        for value in values["sold"]
    ]
    return {**values, "sold": told}


def by_json(server: Server, values: Lists, ref: str = "files", query: str = "") -> Json:
    """What the same rows get as JSON."""
    path = f"/v1/models/{ref}/predict?{query}"
    return server.ok(
        "POST", path, json={"rows": rows_of(iso(values) if "sold" in values else values)}
    )


def written(values: Lists, kind: str) -> bytes:
    write = FORMATS[kind]
    if write is not None:
        return write(values)
    return (as_parquet if kind == PARQUET else as_arrow)(pa.table(values))
