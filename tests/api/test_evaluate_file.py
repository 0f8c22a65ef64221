"""A file to evaluate comes as the one that was uploaded, and gives what its dataset gives."""

import io
from collections.abc import Callable, Iterator

import pandas as pd
import pyarrow as pa
import pytest

from tests.support.server import Json, Server, problem

CSV = {"Content-Type": "text/csv"}
HEAD = "id;Größe;Miete;Einzug;Ort;Notiz"


def written(rows: range) -> str:
    """Flats as their owner writes them: a row number, decimal commas, money, dates, a constant."""
    return "\n".join(
        f"{i};{20 + i},5;{_money(300 + 11.5 * i)};{_date(i)};{'AB'[i % 2]};x" for i in rows
    )


def _date(i: int) -> str:
    return f"{i % 28 + 1:02d}.{i % 12 + 1:02d}.2023"


def _money(value: float) -> str:
    return f"{value:,.2f} €".translate(str.maketrans(",.", ".,"))


TRAINED = f"{HEAD}\n{written(range(90))}\n"
OTHERS = f"{HEAD}\n{written(range(60, 120))}\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("evaluated") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def flats(server: Server) -> Json:
    """What the model does on the dataset of ``OTHERS``."""
    for name, text in (("flats", TRAINED), ("others", OTHERS)):
        sent = server.client.post(f"/v1/datasets?name={name}", content=text, headers=CSV)
        assert sent.status_code == 201, sent.text
    server.train(dataset="flats", target="Miete", model="linear", epochs=3, register_as="flats")
    server.train(
        dataset="flats", target="Ort", model="linear", epochs=3, register_as="places", refit=False
    )
    return server.ok("POST", "/v1/models/flats/evaluate", json={"dataset": "others"})


def evaluated(server: Server, content: str | bytes, media: str = "text/csv", **query: str) -> Json:
    return server.ok(
        "POST",
        f"/v1/models/{query.pop('model', 'flats')}/evaluate",
        params=query,
        content=content,
        headers={"Content-Type": media},
    )


def refused(server: Server, content: str, status: int, code: str, query: str = "") -> Json:
    sent = server.client.post(f"/v1/models/flats/evaluate{query}", content=content, headers=CSV)
    return problem(sent, status, code)


def test_a_raw_file_gives_what_its_dataset_gives(server: Server, flats: Json) -> None:
    found = evaluated(server, OTHERS)
    assert found["dataset"] is None
    assert found["rows"] == 60
    assert {**found, "dataset": flats["dataset"]} == flats


def as_parquet(frame: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.to_parquet(file)
    return file.getvalue()


def as_arrow(frame: pd.DataFrame) -> bytes:
    table, file = pa.Table.from_pandas(frame), io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return file.getvalue()


def as_lines(frame: pd.DataFrame) -> bytes:
    return str(frame.to_json(orient="records", lines=True, force_ascii=False)).encode()


@pytest.mark.parametrize(
    ("media", "write"),
    [
        ("application/vnd.apache.parquet", as_parquet),
        ("application/vnd.apache.arrow.stream", as_arrow),
        ("application/x-ndjson", as_lines),
    ],
)
def test_in_every_format(
    server: Server, flats: Json, media: str, write: Callable[[pd.DataFrame], bytes]
) -> None:
    frame = pd.read_csv(io.StringIO(OTHERS), sep=";", dtype=str)
    assert evaluated(server, write(frame), media)["metrics"] == flats["metrics"]


def test_one_row_is_read_as_many_are(server: Server, flats: Json) -> None:
    text = f"{HEAD}\n{written(range(70, 71))}\n"
    (worst,) = evaluated(server, text)["worst"]
    assert worst["true"] == 300 + 11.5 * 70  # "1.105,00 €" alone might be 1.105
    assert worst["features"]["Größe"] == 90.5


def test_by_a_column_that_is_no_feature(server: Server, flats: Json) -> None:
    rows = [
        line + f";{'north' if i % 3 else 'south'}"
        for i, line in enumerate(OTHERS.split("\n")[1:-1])
    ]
    text = f"{HEAD};Lage\n" + "\n".join(rows)
    found = evaluated(server, text, by="Lage")["by"]
    assert [(group["value"], group["rows"]) for group in found] == [("north", 40), ("south", 20)]


def test_rows_without_a_target_are_skipped(server: Server, flats: Json) -> None:
    lines = [f'{{"Größe": {i}, "Einzug": "01.02.2023", "Ort": "A"}}' for i in range(3)]
    lines.append('{"Größe": 1, "Einzug": "01.02.2023", "Ort": "A", "Miete": "1.010,00 €"}')
    found = evaluated(server, "\n".join(lines), "application/x-ndjson")
    assert (found["rows"], found["skipped"]) == (1, 3)


def test_classes_of_a_file(server: Server, flats: Json) -> None:
    found = evaluated(server, OTHERS, model="places")
    dataset = server.ok("POST", "/v1/models/places/evaluate", json={"dataset": "others"})
    assert found["confusion"] == dataset["confusion"]


@pytest.mark.parametrize(
    ("text", "code", "pointer", "said"),
    [
        (
            OTHERS.replace("Größe", "größe", 1),
            "invalid_request",
            "/columns/Größe",
            "rename its 'größe'",
        ),
        (OTHERS.replace("Miete", "Preis", 1), "invalid_request", "/columns/Miete", "the target"),
        (OTHERS.replace("80,5", "viel"), "invalid_data", "/line/2/Größe", "on_error=missing"),
        (
            f"{HEAD}\n1;2,5;;01.01.2023;A;x\n2;2,5;;01.01.2023;A;x\n",
            "invalid_data",
            "",
            "use predict",
        ),
        ("", "invalid_data", "", "empty"),
    ],
)
def test_what_cannot_be_evaluated(
    server: Server, flats: Json, text: str, code: str, pointer: str, said: str
) -> None:
    found = refused(server, text, 422, code)
    assert said in found["detail"]
    assert [error["pointer"] for error in found.get("errors", [{"pointer": ""}])] == [pointer]


def test_a_cell_that_does_not_fit_may_be_missing(server: Server, flats: Json) -> None:
    found = evaluated(server, OTHERS.replace("80,5", "viel"), on_error="missing")
    assert found["rows"] == 60


def test_by_and_layout_have_their_places(server: Server, flats: Json) -> None:
    assert "did you mean" in refused(server, OTHERS, 422, "invalid_request", "?by=ort")["detail"]
    for query, said in (("by=Ort", "goes into it"), ("delimiter=;", "has been read")):
        sent = server.client.post(f"/v1/models/flats/evaluate?{query}", json={"dataset": "others"})
        assert said in problem(sent, 422, "invalid_request")["detail"]
    sent = server.client.post(
        "/v1/models/flats/evaluate", content="x", headers={"Content-Type": "text/plain"}
    )
    problem(sent, 415, "unsupported_media_type")


def test_labels_that_were_made_one_are_one_in_a_file(server: Server) -> None:
    kinds = ["Yes", "yes", "NO", "No ", "no", "Café", "Cafe\u0301"]
    rows = [f"{i},{'Rome ' if i % 2 else 'rome'},{kinds[i % 7]}" for i in range(84)]
    text = "size,town,kind\n" + "\n".join(rows) + "\n"
    sent = server.client.post("/v1/datasets?name=spelt", content=text, headers=CSV)
    assert sent.status_code == 201, sent.text
    server.train(
        dataset="spelt", target="kind", model="linear", epochs=2, register_as="spelt", refit=False
    )
    asked = {"dataset": "spelt", "by": "town"}
    dataset = server.ok("POST", "/v1/models/spelt/evaluate", json=asked)
    found = evaluated(server, text, model="spelt", by="town")
    for name in ("metrics", "confusion", "by"):
        assert found[name] == dataset[name], name
    (told,) = [note for note in found["warnings"] if note not in dataset["warnings"]]
    assert "column 'town': 42 cells were read as labels" in told


def test_a_total_at_the_end_of_a_file_is_told(server: Server, flats: Json) -> None:
    total = ";".join(["Summe"] + [""] * HEAD.count(";"))
    found = evaluated(server, f"{OTHERS}{total}\n")
    assert any("looks like a total ('Summe')" in note for note in found["warnings"])
