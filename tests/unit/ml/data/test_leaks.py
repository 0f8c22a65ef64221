"""Features that alone give the target are told."""

import numpy as np
import pyarrow as pa

from app.ml.data import leaks

N = 200
NOISE = np.random.default_rng(0).normal(size=N)
PRICE = np.arange(N) * 3.0
CLASS = [("a", "b", "c")[i % 3] for i in range(N)]


def told(target: str, **columns: object) -> list[str]:
    table = pa.table(columns)
    return leaks.warnings(table, [name for name in columns if name != target], [target])


def test_a_copy_in_another_unit_is_told() -> None:
    (warning,) = told("price", price=PRICE, euros=PRICE * 0.9 + 1, size=PRICE + 200 * NOISE)
    assert "feature 'euros' alone gives the target 'price'" in warning
    (warning,) = told("price", price=PRICE, debt=-PRICE, size=NOISE)
    assert "'debt'" in warning


def test_labels_of_which_each_has_one_class_are_told() -> None:
    codes = [{"a": "1", "b": "2", "c": "1"}[each] for each in CLASS]
    finer = [f"{each}{i % 2}" for i, each in enumerate(CLASS)]
    (warning,) = told("kind", kind=CLASS, finer=finer, coarse=codes, x=NOISE)
    assert (
        "feature 'finer' alone gives the target 'kind' (each of its 6 values has one class)"
        in warning
    )


def test_what_is_no_leak() -> None:
    names = [f"n{i}" for i in range(N)]
    assert told("kind", kind=CLASS, names=names, x=NOISE) == []
    assert told("price", price=PRICE, size=PRICE + 50 * NOISE, x=NOISE) == []
    assert told("price", price=PRICE, x=PRICE * 2) == [], "the only feature is meant to"
    constant = np.ones(N)
    assert told("price", price=PRICE, one=constant, gap=np.full(N, np.nan)) == []


def test_what_is_told_of_any_two_types() -> None:
    flag = [float(each == "a") for each in CLASS]
    (warning,) = told("kind", kind=[each == "a" for each in CLASS], flag=flag, x=NOISE)
    assert "'flag' alone gives the target 'kind' (each of its 2 values has one class)" in warning
    ranked = np.argsort(np.argsort(NOISE))
    (warning,) = told("price", price=PRICE, square=PRICE**2, cube=ranked * 1.0)
    assert "'square' alone gives the target 'price' (their rank correlation is 1)" in warning
    bands = np.where(PRICE < 200, "low", np.where(PRICE < 400, "mid", "high")).tolist()
    (warning,) = told("band", band=bands, price=PRICE, x=NOISE)
    assert "'price' alone gives the target 'band' (each of the 3 classes has a stretch" in warning
    label = [f"k{i % 9}" for i in range(N)]
    (warning,) = told("rent", rent=[(i % 9) ** 1.5 for i in range(N)], label=label, x=NOISE)
    assert "'label' alone gives the target 'rent' (each of its 9 values has one value)" in warning
