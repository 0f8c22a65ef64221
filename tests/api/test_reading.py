"""A file as its owner wrote it, up to the prediction: what was understood is told, and a model
reads what it predicts in the same way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Json, Server, problem

CSV = {"Content-Type": "text/csv"}
FLATS = "Größe;Miete;Einzug;Ort\n" + "\n".join(
    f"{20 + i},5;1.{i:03d},50 €;{i % 28 + 1:02d}.{i % 12 + 1:02d}.2023;{'AB'[i % 2]}"
    for i in range(60)
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("reading") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def flats(server: Server) -> Json:
    sent = server.client.post("/v1/datasets?name=flats", content=FLATS.encode(), headers=CSV)
    assert sent.status_code == 201, sent.text
    server.train(dataset="flats", target="Miete", model="linear", epochs=3, register_as="flats")
    dataset: Json = sent.json()
    return dataset


def by_name(dataset: Json) -> dict[str, Json]:
    return {column["name"]: column for column in dataset["columns"]}


def test_what_was_understood_is_told(flats: Json) -> None:
    columns = by_name(flats)
    assert {name: column["type"] for name, column in columns.items()} == {
        "Größe": "number",
        "Miete": "number",
        "Einzug": "datetime",
        "Ort": "category",
    }
    assert columns["Größe"]["notation"] == {"decimal": ","}
    assert columns["Miete"]["unit"] == "€"
    assert columns["Miete"]["max"] == 1059.5
    assert columns["Einzug"]["format"] == "%d.%m.%Y"
    assert "notation" not in columns["Ort"]
    assert flats["warnings"] == []


def test_labels_that_are_one_are_one_in_what_is_predicted(server: Server) -> None:
    kinds = ["House", "house", "Flat", "FLAT ", "flat", "House"]
    rows = "".join(f"{kinds[i % 6]},{i % 6},{i}\n" for i in range(60))
    sent = server.client.post(
        "/v1/datasets?name=homes", content="kind,size,rent\n" + rows, headers=CSV
    )
    assert sent.status_code == 201, sent.text
    [warning] = sent.json()["warnings"]
    assert "'kind': 30 cells" in warning
    assert "the first 'house' in line 3 as 'House'" in warning
    server.train(dataset="homes", target="rent", model="linear", epochs=3, register_as="homes")
    path = "/v1/models/homes/predict"
    answers = [
        server.ok("POST", path, json={"rows": [{"kind": kind, "size": 1}]})["predictions"]
        for kind in ("House", "HOUSE", " house ", "Flat", "FLAT")
    ]
    assert answers[0] == answers[1] == answers[2] != answers[3] == answers[4]
    raw = server.client.post(path, content="kind,size,rent\nhouse,1,0\nFLAT ,1,0\n", headers=CSV)
    assert raw.json()["predictions"] == [*answers[0], *answers[3]]


def test_a_model_reads_what_it_predicts_in_the_same_way(server: Server, flats: Json) -> None:
    path = "/v1/models/flats/predict"
    row: Json = {"Größe": 25.5, "Einzug": "2023-04-03", "Ort": "A"}
    expected = server.ok("POST", path, json={"rows": [row]})["predictions"]
    written = {"Größe": "25,5", "Einzug": "03.04.2023", "Ort": "A"}
    assert server.ok("POST", path, json={"rows": [written]})["predictions"] == expected
    columns = {name: [value] for name, value in written.items()}
    assert server.ok("POST", path, json={"columns": columns})["predictions"] == expected
    mixed = server.ok("POST", path, json={"rows": [row, written]})["predictions"]
    assert mixed == expected * 2
    raw = "Größe;Miete;Einzug;Ort\n25,5;1.000,00 €;03.04.2023;A\n"
    sent = server.client.post(path, content=raw.encode(), headers=CSV)
    assert sent.json()["predictions"] == expected
    lines = '{"Größe":"25,5","Einzug":"03.04.2023","Ort":"A"}\n'.encode()
    ndjson = {"Content-Type": "application/x-ndjson"}
    assert server.client.post(path, content=lines, headers=ndjson).json()["predictions"] == expected


def test_the_file_that_was_uploaded_can_be_predicted_and_evaluated(
    server: Server, flats: Json
) -> None:
    sent = server.client.post("/v1/models/flats/predict", content=FLATS.encode(), headers=CSV)
    assert len(sent.json()["predictions"]) == 60
    found = server.ok("POST", "/v1/models/flats/evaluate", json={"dataset": "flats"})
    assert found["rows"] == 60


@pytest.mark.parametrize("cell", ["soon", "31.02.2023", "12,5,5"])
def test_a_string_that_cannot_be_read_is_pointed_at(server: Server, flats: Json, cell: str) -> None:
    name = "Größe" if "," in cell else "Einzug"
    rows = [{"Größe": "25,5", "Einzug": "03.04.2023", "Ort": "A", name: value} for value in (cell,)]
    good = {"Größe": "25,5", "Einzug": "03.04.2023", "Ort": "A"}
    refused = server.client.post("/v1/models/flats/predict", json={"rows": [good, *rows]})
    errors = problem(refused, 422, "invalid_request")["errors"]
    assert [error["pointer"] for error in errors] == [f"/rows/1/{name}"]


@pytest.mark.parametrize(
    ("query", "cells", "expected"),
    [
        ("decimal=,", ["1,037", "2,074"], [1.037, 2.074]),
        ("thousands=,", ["1,037", "2,074"], [1037, 2074]),
        ("date_order=mdy", ["03/04/2023", "05/06/2023"], ["2023-03-04", "2023-05-06"]),
        ("date_format=%25m/%25d/%25Y", ["03/04/2023", "05/06/2023"], ["2023-03-04", "2023-05-06"]),
        ("na_values=gone,lost", ["1", "gone"], [1, None]),
        ("keep_na=NA", ["NA", "ZA"], ["NA", "ZA"]),
        ('types={"c":"number"}&on_error=missing', ["<5", "7"], [None, 7]),
        ('types={"c":"datetime"}', ["1614556800", ""], ["2021-03-01", None]),
    ],
)
def test_options_overrule(
    server: Server, query: str, cells: list[str], expected: list[Any]
) -> None:
    content = "\n".join(["k;c", *(f"x;{cell}" for cell in cells)])
    sent = server.client.post(f"/v1/datasets?{query}", content=content, headers=CSV)
    assert sent.status_code == 201, sent.text
    path = f"/v1/datasets/{sent.json()['id']}/rows"
    assert [row["c"] for row in server.ok("GET", path)["rows"]] == expected
    form = dict(part.split("=", 1) for part in query.replace("%25", "%").split("&"))
    file = {"file": ("a.csv", content)}
    same = server.client.post("/v1/datasets", files=file, data=form)
    assert same.json()["sha256"] == sent.json()["sha256"]


def test_options_of_strings_in_json(server: Server) -> None:
    source = {"kind": "inline", "rows": [{"day": "03/04/2023"}, {"day": "05/06/2023"}]}
    undecided = server.ok("POST", "/v1/datasets", json={"source": source})
    assert "date_order=dmy" in undecided["warnings"][0]
    body = {"source": source, "reading": {"date_order": "dmy"}}
    assert by_name(server.ok("POST", "/v1/datasets", json=body))["day"]["max"] == "2023-06-05"
    wrong = server.client.post("/v1/datasets", json={**body, "reading": {"date_order": "md"}})
    assert problem(wrong, 422, "invalid_request")["errors"][0]["pointer"] == "/reading/date_order"


def test_what_is_missing_is_counted(server: Server) -> None:
    content = "k,b\n" + "\n".join(f"{i},{'?' if i % 6 == 0 else i / 2}" for i in range(24))
    sent = server.client.post("/v1/datasets", content=content, headers=CSV).json()
    assert by_name(sent)["b"]["missing_as"] == {"?": 4}
    assert by_name(sent)["b"]["missing"] == 4
    assert "4 cells were taken as missing ('?' 4)" in sent["warnings"][0]


def test_the_library_reads_so_too(tmp_path: Path) -> None:
    from app.ml.training.fit import fit

    path = tmp_path / "flats.csv"
    path.write_text(FLATS)
    model = fit(path, "Miete", tmp_path / "work", model="linear", epochs=2)
    written = model.tables.of_rows([{"Größe": "25,5", "Einzug": "03.04.2023", "Ort": "A"}])
    plain = model.tables.of_rows([{"Größe": 25.5, "Einzug": "2023-04-03", "Ort": "A"}])
    assert written.equals(plain)


def test_a_file_with_commas_between_cells_is_plain(server: Server, flats: Json) -> None:
    """Whatever else stands in it: what a data frame writes is what JSON's numbers say."""
    path = "/v1/models/flats/predict"
    head, one, two = "Größe,Einzug,Ort\n", "25.375,2023-04-03,A\n", "1000.5,2023-04-03,A\n"
    rows = [{"Größe": size, "Einzug": "2023-04-03", "Ort": "A"} for size in (25.375, 1000.5)]
    expected = server.ok("POST", path, json={"rows": rows})["predictions"]
    for content, wanted in ((head + one, expected[:1]), (head + one + two, expected)):
        sent = server.ok("POST", path, content=content.encode(), headers=CSV)
        assert sent["predictions"] == pytest.approx(wanted)


def test_strings_in_two_notations_are_an_error_at_the_second(server: Server, flats: Json) -> None:
    rows = [{"Größe": size, "Einzug": "03.04.2023", "Ort": "A"} for size in ("25,5", "25.5,1")]
    sent = server.client.post("/v1/models/flats/predict", json={"rows": rows})
    assert problem(sent, 422, "invalid_request")["errors"][0]["pointer"] == "/rows/1/Größe"
    rows = [{"Größe": "25,5", "Einzug": day, "Ort": "A"} for day in ("13.03.2021", "03/21/2021")]
    sent = server.client.post("/v1/models/flats/predict", json={"rows": rows})
    assert problem(sent, 422, "invalid_request")["errors"][0]["pointer"] == "/rows/1/Einzug"


def test_what_is_said_to_be_missing_is_so_in_json_too(server: Server) -> None:
    rows = "".join(f"{-999 if i % 5 == 0 else i},{'ab'[i % 2]},{i}\n" for i in range(60))
    path = "/v1/datasets?name=marked&na_values=-999,none"
    assert server.client.post(path, content="x,g,y\n" + rows, headers=CSV).status_code == 201
    server.train(dataset="marked", target="y", model="linear", epochs=3, register_as="marked")

    def answer(x: Any, g: Any = "a") -> float:
        body = {"rows": [{"x": x, "g": g}]}
        found: float = server.ok("POST", "/v1/models/marked/predict", json=body)["predictions"][0]
        return found

    assert answer(-999) == answer("-999") == answer(-999.0) == answer(None)
    assert answer(5, "None") == answer(5, None)
    assert answer(5) != answer(None)


def test_a_target_that_cannot_be_one_says_how_it_was_read(server: Server) -> None:
    rows = "".join(f"{i},1.{i:03d}\n" for i in range(100, 160))
    sent = server.client.post(
        "/v1/datasets?name=open-thousands&delimiter=;",
        content="size;price\n" + rows.replace(",", ";").replace(".", ","),
        headers=CSV,
    )
    assert sent.status_code == 201, sent.text
    assert by_name(sent.json())["price"]["type"] == "category"
    job = server.client.post("/v1/jobs", json={"dataset": "open-thousands", "target": "price"})
    assert "decimal=" in problem(job, 422, "invalid_request")["detail"]


def test_a_job_says_why_a_column_that_it_left_out_was_none_of_numbers(server: Server) -> None:
    """One odd cell makes a column of distinct numbers a category, and that an identifier."""
    cells = [*(f"{i}.5" for i in range(60)), "about 9"]
    text = "size,z,rent\n" + "\n".join(f"{cell},{i % 7},{i}" for i, cell in enumerate(cells))
    made = server.client.post("/v1/datasets?name=left-out", content=text, headers=CSV).json()
    (why,) = [warning for warning in made["warnings"] if "about 9" in warning]
    body = {"dataset": "left-out", "target": "rent"}
    planned = server.ok("POST", "/v1/jobs?dry_run=true", json=body)
    assert why in planned["warnings"]
    assert any("'size' looks like an identifier" in text for text in planned["warnings"])
