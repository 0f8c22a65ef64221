"""Columns that are no features: by their names and by their values."""

from typing import Any

import pytest

from app.ml.tables.roles import doubt, role_of, words_of


def column(name: str, kind: str = "number", distinct: int = 100, **facts: Any) -> dict[str, Any]:
    ends = {"min": 7, "max": 500}
    facts = {"missing": 0, "integer": True, **ends, **facts}
    return {"name": name, "type": kind, "distinct": distinct} | facts


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("PassengerId", ["passenger", "id"]),
        ("CustomerID", ["customer", "id"]),
        ("customer_id", ["customer", "id"]),
        ("HTTPCode", ["http", "code"]),
        ("paid", ["paid"]),
    ],
)
def test_words(name: str, words: list[str]) -> None:
    assert words_of(name) == words


@pytest.mark.parametrize(
    ("found", "role"),
    [
        *((column(name), "identifier") for name in ("id", "PassengerId", "CustomerID", "user_uid")),
        *((column(name), "index") for name in ("index", "Unnamed: 0", "row_number", "rowid")),
        *((column(name), "index") for name in ("S.No.", "no", "Nr", "#", "Unnamed: 0.1", "idx")),
        *((column(n), "identifier") for n in ("userid", "order_no", "InvoiceNumber", "ID Code")),
        *((column(name), "feature") for name in ("paid", "humidity", "valid", "covid", "number")),
        (column("user_id", distinct=40), "feature"),
        (column("PassengerId", integer=False), "feature"),
        (column("name", "category"), "identifier"),
        (column("name", "category", 95), "identifier"),
        (column("city", "category", 10), "feature"),
        (column("note", "text"), "text"),
        (column("one", distinct=1), "constant"),
        (column("one", distinct=1, missing=3), "feature"),
        (column("id", "datetime"), "feature"),
    ],
)
def test_roles(found: dict[str, Any], role: str) -> None:
    assert role_of(found, 100) == role


def test_few_rows_say_nothing() -> None:
    assert role_of(column("id", distinct=10), 10) == "feature"
    counted: dict[str, Any] = {"distinct": 10, "min": 0, "max": 9}
    assert role_of(column("index", **counted), 10) == "index", "but numbers of rows"
    assert role_of(column("index", **{**counted, "max": 12}), 10) == "feature"


def test_labels_that_seldom_repeat_are_doubted() -> None:
    assert "50 different values in 100 rows" in str(doubt(column("passage", "category", 50), 100))
    assert doubt(column("city", "category", 10), 100) is None
