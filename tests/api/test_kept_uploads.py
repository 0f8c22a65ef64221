"""Looking before storing: previews, and files that are kept to be read again."""

import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.server import Json, Server, problem

CSV = {"Content-Type": "text/csv"}
TABLE = "day;amount\n01/02/2023;1,5\n03/04/2023;2,5\n05/06/2023;-\n"


def keep(server: Server, content: str = TABLE, **headers: str) -> str:
    sent = server.client.post("/v1/uploads", content=content, headers={**CSV, **headers})
    assert sent.status_code == 201, sent.text
    body = sent.json()
    assert body["object"] == "upload"
    assert body["size_bytes"] == len(content.encode())
    assert sent.headers["location"] == f"/v1/uploads/{body['id']}"
    assert server.ok("GET", sent.headers["location"]) == body
    return str(body["id"])


def test_a_reading_is_corrected_without_sending_the_file_again(server: Server) -> None:
    source = {"kind": "upload", "id": keep(server)}
    before = len(server.everything("/v1/datasets"))
    first = server.ok("POST", "/v1/datasets?dry_run=true", json={"source": source})
    assert [column["type"] for column in first["columns"]] == ["category", "number"]
    assert any("date_order=dmy" in warning for warning in first["warnings"])
    assert len(server.everything("/v1/datasets")) == before
    made = server.ok(
        "POST", "/v1/datasets", json={"source": source, "reading": {"date_order": "dmy"}}
    )
    assert made["columns"][0]["type"] == "datetime"
    again = server.ok(
        "POST",
        "/v1/datasets",
        json={"source": source, "reading": {"skip_rows": 1, "header": False}},
    )
    assert [column["name"] for column in again["columns"]] == ["f0", "f1"]
    assert again["id"] != made["id"]


def test_what_is_read_is_what_was_sent(server: Server) -> None:
    upload = keep(server)
    source = {"kind": "upload", "id": upload}
    (path,) = (server.data_dir / "uploads").glob(f"{upload}.*")
    path.write_bytes(path.read_bytes().replace(b"2,5", b"2,6"))
    for query in ("", "?dry_run=true"):
        told = server.client.post(f"/v1/datasets{query}", json={"source": source})
        assert upload in problem(told, 503, "artifact_corrupt")["detail"]
    assert server.client.delete(f"/v1/uploads/{upload}").status_code == 204


def test_an_upload_that_an_older_fitserve_kept_is_read(server: Server) -> None:
    upload = keep(server)
    (path,) = (server.data_dir / "uploads").glob(f"{upload}.*")
    path.rename(path.with_name(f"{upload}.csv"))
    assert server.ok("GET", f"/v1/uploads/{upload}")["id"] == upload
    server.ok("POST", "/v1/datasets", json={"source": {"kind": "upload", "id": upload}})


@pytest.mark.parametrize("way", ["body", "form", "inline", "array", "synthetic"])
def test_a_preview_says_what_would_be_stored(server: Server, way: str) -> None:
    rows = [{"x": i, "y": i / 2} for i in range(25)]
    text = "x,y\n" + "\n".join(f"{row['x']},{row['y']}" for row in rows)
    line = {"kind": "synthetic", "generator": "line"}
    requests: dict[str, Json] = {
        "body": {"content": text, "headers": CSV},
        "form": {"files": {"file": ("t.csv", text)}},
        "inline": {"json": {"source": {"kind": "inline", "rows": rows}}},
        "array": {"json": rows},
        "synthetic": {"json": {"source": line}},
    }
    request = requests[way]
    before = server.everything("/v1/datasets")
    found = server.ok("POST", "/v1/datasets?dry_run=true", **request)
    stored = server.ok("POST", "/v1/datasets", **request)
    assert found["object"] == "preview"
    for name in ("rows", "columns", "warnings", "reading"):
        assert found[name] == stored[name]
    total = server.ok("GET", f"/v1/datasets/{stored['id']}/rows?limit=10")
    assert found["preview"] == total["rows"]
    assert len(server.everything("/v1/datasets")) == len(before) + 1
    assert not [*(Path(server.data_dir) / "tmp").iterdir()]


def test_a_preview_is_refused_as_the_dataset_would_be(server: Server) -> None:
    for path in ("/v1/datasets", "/v1/datasets?dry_run=true"):
        sent = server.client.post(path, content=b"a,b\n1,2\n3,4,5\n", headers=CSV)
        assert "ragged" in problem(sent, 422, "invalid_data")["detail"]


def test_a_preview_holds_no_more_than_an_answer_may(server: Server) -> None:
    cell = "x" * (7 << 20)
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [cell] * 10, "b": range(10)}), sink, compression="zstd")
    parquet = {"Content-Type": "application/vnd.apache.parquet"}
    sent = server.client.post("/v1/datasets?dry_run=true", content=sink.getvalue(), headers=parquet)
    assert sent.status_code == 200
    assert sent.json()["rows"] == 10
    assert [row["b"] for row in sent.json()["preview"]] == [0, 1]
    assert len(sent.content) < 17 << 20


def test_types_may_stand_in_the_reading(server: Server) -> None:
    source = {"kind": "upload", "id": keep(server)}
    read = {"types": {"amount": "category"}}
    preview = server.ok(
        "POST", "/v1/datasets?dry_run=true", json={"source": source, "reading": read}
    )
    assert preview["columns"][1]["type"] == "category"
    both = {"source": source, "reading": read, "types": {"amount": "number"}}
    preview = server.ok("POST", "/v1/datasets?dry_run=true", json=both)
    assert preview["columns"][1]["type"] == "number"


def test_a_file_of_no_known_type_is_kept_and_told_by_its_content(server: Server) -> None:
    octets = {"Content-Type": "application/octet-stream"}
    for content in (TABLE, '{"day": "x", "amount": 1}\n'):
        source = {"kind": "upload", "id": keep(server, content, **octets)}
        preview = server.ok("POST", "/v1/datasets?dry_run=true", json={"source": source})
        assert [column["name"] for column in preview["columns"]] == ["day", "amount"]
    for headers in (CSV, octets):
        sent = server.client.post("/v1/uploads", content=b"", headers=headers)
        assert "is empty" in problem(sent, 422, "invalid_data")["detail"]


@pytest.mark.parametrize("table", [{"a": {"0": 1}}, {"data": [{"a": 1}]}, {"a": [1, 2]}])
def test_a_table_that_is_no_request_is_told_how_to_be_one(server: Server, table: Json) -> None:
    found = problem(server.client.post("/v1/datasets", json=table), 422, "invalid_request")
    assert 'orient="records"' in found["detail"]
    assert found["errors"][0]["pointer"] == "/source"


def test_an_array_of_rows_takes_its_options_from_the_query(server: Server) -> None:
    rows = [{"a": "01/02/2023", "u": {"v": i}} for i in range(3)]
    made = server.ok("POST", "/v1/datasets?name=rows-alone&date_order=dmy", json=rows)
    assert made["name"] == "rows-alone"
    assert [(c["name"], c["type"]) for c in made["columns"]] == [
        ("a", "datetime"),
        ("u.v", "number"),
    ]
    error = problem(server.client.post("/v1/datasets", json=[{"a": 1}, 2]), 422, "invalid_data")
    assert error["errors"][0]["pointer"] == "/1"


def test_a_form_and_tabs_are_kept_too(server: Server) -> None:
    sent = server.client.post("/v1/uploads", files={"file": ("t.tsv", "a\tb\n1;5\t2\n3;5\t4\n")})
    source = {"kind": "upload", "id": sent.json()["id"]}
    made = server.ok("POST", "/v1/datasets?dry_run=true", json={"source": source})
    assert [column["name"] for column in made["columns"]] == ["a", "b"]


def test_with_a_key_a_file_is_kept_once(server: Server) -> None:
    key = {"Idempotency-Key": "keep once"}
    assert keep(server, **key) == keep(server, **key)
    other = server.client.post("/v1/uploads", content="a\n1\n", headers={**CSV, **key})
    problem(other, 422, "idempotency_key_reused")


def test_what_is_not_kept(server: Server) -> None:
    for unknown in ("up_000000000000000000000000", "../datasets", "*", "ds_1"):
        sent = server.client.post(
            "/v1/datasets", json={"source": {"kind": "upload", "id": unknown}}
        )
        error = problem(sent, 422, "invalid_request")["errors"][0]
        assert (error["pointer"], error["code"]) == ("/source/id", "no_upload")
    upload = keep(server)
    assert server.client.delete(f"/v1/uploads/{upload}").status_code == 204
    problem(server.client.get(f"/v1/uploads/{upload}"), 404, "not_found")
    problem(server.client.delete(f"/v1/uploads/{upload}"), 404, "not_found")
    image = {"Content-Type": "image/png"}
    problem(
        server.client.post("/v1/uploads", content=b"x", headers=image),
        415,
        "unsupported_media_type",
    )


def test_a_file_that_is_deleted_while_it_is_read(server: Server) -> None:
    big = "a,b\n" + "\n".join(f"{i},{i / 7}" for i in range(60_000))
    for _ in range(3):
        upload = keep(server, big)
        body = {"source": {"kind": "upload", "id": upload}}
        with ThreadPoolExecutor(2) as pool:
            asked = pool.submit(server.client.post, "/v1/datasets?dry_run=true", json=body)
            time.sleep(0.02)
            assert server.client.delete(f"/v1/uploads/{upload}").status_code == 204
            assert asked.result().status_code in (200, 404, 422)


def test_a_form_of_json_without_an_ending(server: Server) -> None:
    file = {"file": ("rows", b'{"x":1,"y":"a"}\n{"x":2,"y":"b"}\n')}
    found = server.ok("POST", "/v1/datasets?dry_run=true", files=file)
    assert [(c["name"], c["type"]) for c in found["columns"]] == [
        ("x", "number"),
        ("y", "category"),
    ]


def test_shapes_are_of_files(server: Server) -> None:
    body = {"source": {"kind": "inline", "rows": [{"a": 1}]}, "reading": {"skip_rows": 1}}
    error = problem(server.client.post("/v1/datasets", json=body), 422, "invalid_request")
    assert error["errors"][0]["pointer"] == "/reading/skip_rows"


def test_a_day_later_it_is_gone(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        upload, younger = keep(server), keep(server)
        (path,) = (tmp_path / "data" / "uploads").glob(f"{upload}.*")
        old = time.time() - 24 * 3600 - 1
        os.utime(path, (old, old))
        problem(server.client.get(f"/v1/uploads/{upload}"), 404, "not_found")
        server.terminate()
        server.restart()
        assert not path.exists()
        server.ok("GET", f"/v1/uploads/{younger}")


def test_some_columns_of_rows(server: Server) -> None:
    rows = [{"a": 1, "b,c": 2, "d": 3}]
    name = server.ok("POST", "/v1/datasets", json=rows)["id"]
    for asked, expected in (("a", ["a"]), ("d,a", ["d", "a"]), ("b,c", ["b,c"])):
        found = server.ok("GET", f"/v1/datasets/{name}/rows", params={"columns": asked})["rows"]
        assert [*found[0]] == expected
    wrong = server.client.get(f"/v1/datasets/{name}/rows?columns=a,dd")
    assert "did you mean 'd'" in problem(wrong, 422, "invalid_request")["detail"]


def test_raw_files_are_predicted_as_they_are(server: Server) -> None:
    rows = [{"id": i, "u": {"v": i / 3}, "l": [i], "y": 2 * i} for i in range(40)]
    server.train(
        dataset=server.ok("POST", "/v1/datasets", json=rows)["id"],
        target="y",
        epochs=1,
        register_as="raw-rows",
    )
    path = "/v1/models/raw-rows/predict"
    flat = [{"id": i, "u.v": i / 3} for i in range(40)]
    expected = server.ok("POST", path, json={"rows": flat})["predictions"]
    assert server.ok("POST", path, json=rows)["predictions"] == expected
    alone = server.ok("POST", path, json=rows[:1])["predictions"]
    assert alone == pytest.approx(expected[:1])
    lines = "\n".join(map(json.dumps, rows))
    headers = {"Content-Type": "application/x-ndjson"}
    assert server.ok("POST", path, content=lines, headers=headers)["predictions"] == expected
    wrong = server.client.post(path, json=[{"id": 1, "u": {"w": 2}}])
    pointers = {e["pointer"] for e in problem(wrong, 422, "invalid_request")["errors"]}
    assert pointers == {"/0/u.v", "/0/u.w"}


def test_what_cells_mean_holds_for_what_is_predicted(server: Server) -> None:
    """Markers of gaps that were named, and cells that do not fit, in the same file later."""
    rows = [
        f"{i if i % 9 else 'none of it'},{'AB'[i % 2] if i % 7 else 'nil'},{2 * i}"
        for i in range(80)
    ]
    text = "x,g,y\n" + "\n".join(rows)
    made = server.ok(
        "POST",
        '/v1/datasets?na_values=nil&on_error=missing&types={"x":"number"}',
        content=text,
        headers=CSV,
    )
    assert made["reading"]["na_values"] == ["nil"]
    assert made["reading"]["on_error"] == "missing"
    assert [column["missing"] for column in made["columns"]] == [9, 12, 0]
    server.train(dataset=made["id"], target="y", epochs=2, register_as="cells", model="linear")
    whole = server.ok("POST", "/v1/models/cells/predict", content=text, headers=CSV)
    gaps = [{"x": i if i % 9 else None, "g": "AB"[i % 2] if i % 7 else None} for i in range(80)]
    assert whole == server.ok("POST", "/v1/models/cells/predict", json={"rows": gaps})


def test_cells_that_do_not_fit_may_stand_alone(server: Server) -> None:
    path = "/v1/models/cells/predict"
    row = "x,g\nlots,A\n"
    alone = server.ok("POST", path, content=row, headers=CSV)["predictions"]
    gap = server.ok("POST", path, json={"rows": [{"x": None, "g": "A"}]})["predictions"]
    assert alone == gap
