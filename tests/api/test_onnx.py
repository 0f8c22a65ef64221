"""Models as ONNX files: ``download?format=onnx``."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.server import Json, Server, problem

PAGE = Path("docs/onnx.md")
NOTES = [
    f"quiet flat near the old harbour, {i}, with a view of {i * 31 % 17} ships" for i in range(60)
]


@pytest.fixture(scope="module")
def flats(server: Server) -> Server:
    """With the model ``flats`` of the page, and ``worded``, which learnt from sentences."""
    content = Path("docs/flats.csv").read_bytes()
    headers = {"Content-Type": "text/csv"}
    server.ok("POST", "/v1/datasets", params={"name": "flats"}, content=content, headers=headers)
    job: Json = {"target": "rent", "epochs": 3, "refit": False}
    server.train(**job, dataset="flats", register_as="flats")
    columns = {"note": NOTES, "rent": [*range(60)]}
    body = {"name": "worded", "source": {"kind": "inline", "columns": columns}}
    server.ok("POST", "/v1/datasets", json={**body, "types": {"note": "text"}})
    server.train(**job, dataset="worded", register_as="worded", model="linear")
    return server


def test_it_is_a_download_that_predicts_as_its_page_says(flats: Server, tmp_path: Path) -> None:
    url, params = "/v1/models/flats/download", {"format": "onnx"}
    head = flats.client.head(url, params=params, timeout=120)
    answer = flats.client.get(url, params=params)
    assert answer.status_code == 200, answer.text
    assert 'filename="flats-1.onnx"' in answer.headers["content-disposition"]
    assert int(head.headers["content-length"]) == len(answer.content)
    etag = answer.headers["etag"]
    assert etag == head.headers["etag"]
    assert not etag.startswith("W/")
    same = flats.client.get(url, params=params, headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    part = flats.client.get(url, params=params, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, answer.content[10:20])

    (tmp_path / "flats.onnx").write_bytes(answer.content)
    code = PAGE.read_text().partition("```python\n")[2].partition("```\n")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    told, printed = done.stdout.strip().split("\n")
    assert "['prediction']" in told
    rows = [
        {"size": 72.5, "rooms": 3, "district": "Hafen", "floor": 2, "built": 1998},
        {"size": 40.0, "rooms": 1, "district": "Altstadt", "floor": None, "built": 1964},
    ]
    rows[0] |= {"balcony": "yes", "heating": None}
    rows[1] |= {"balcony": None, "heating": "gas"}
    expected = flats.ok("POST", "/v1/models/flats/predict", json={"rows": rows})
    found = [float(number) for number in printed.strip("[]").split()]
    np.testing.assert_allclose(found, expected["predictions"], rtol=1e-5)


def test_what_cannot_be_exported_says_why(flats: Server) -> None:
    answer = flats.client.get("/v1/models/worded/download", params={"format": "onnx"})
    found = problem(answer, 422, "not_applicable")
    assert "'note' is a text; take format=bundle" in found["detail"]
    answer = flats.client.get("/v1/models/none/download", params={"format": "onnx"})
    problem(answer, 404, "not_found")
