"""What a client sends of the features, in any shape, as one Arrow table in their order and types.

JSON comes as rows, columns or instances and is taken at its word: a value of another type is an
error with its place. Tables (Arrow, or files that have been read) are taken as an upload with
``types`` would be. Importable without torch.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.errors import FieldError, InvalidData, InvalidRequest, escape
from app.ml.column_types.canonical import TypeName, iso
from app.ml.column_types.cells import Found
from app.ml.column_types.notations.missing import SaidMissing
from app.ml.column_types.notations.notation import AS_FOUND, CellOptions, Cells, Notation
from app.ml.column_types.registry import COLUMN_TYPES
from app.ml.column_types.text_parsing import first_misfit
from app.ml.features.encoder import Feature
from app.ml.features.places import Place, in_columns, in_lists, in_rows
from app.ml.tables import strings
from app.ml.tables.columns import MAX_CELL_BYTES, cell_too_long, typed_column
from app.ml.tables.json_values import flat, objects_among
from app.names import nearest

_MOST_ERRORS = 20
_MOST_TRIES = 50
"""Readings of a column of strings in which those that cannot be read are looked for."""
_MOST_LOOKED_AT = 200
"""Strings from the first that cannot be read on, of which the others are looked for."""


class FeatureTables:
    """Makes tables of ``features``; columns called as one of ``ignored`` may be there and are
    passed over, with ``None`` all others are. Strings are read as the features were written that
    the model was trained on (``notations``; ``options`` is what cells mean), or plainly.

    Every method raises InvalidRequest that points at up to 20 wrong places, or InvalidData for a
    character that no table holds.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        ignored: Iterable[str] | None,
        notations: Mapping[str, Notation] = MappingProxyType({}),
        options: CellOptions = AS_FOUND,
    ) -> None:
        self._notations = notations
        # a string that is no number is an error at its place, whatever became of such cells before
        self._options = options.model_copy(update={"on_error": "refuse"})
        self.gaps = SaidMissing(options.na_values)
        """Values that mean a missing one, by what the dataset's client said."""
        self._features = {feature.name: feature for feature in features}
        self._ignored = None if ignored is None else frozenset(ignored)
        self.nested = objects_among((*self._features, *(self._ignored or ())))
        """The objects of a row whose members are features, or passed over."""

    @property
    def names(self) -> list[str]:
        """The names of the features, in order."""
        return list(self._features)

    # ------------------------------------------------------------ JSON

    def of_rows(self, rows: Sequence[Any], at: str = "/rows") -> pa.Table:
        """Return the table of ``[{"x": 0.5}]``; ``at`` is where the list stands in the request."""
        errors: list[FieldError] = []
        known = self._features.keys()
        if self.nested:
            rows = [
                flat(row, f"{at}/{i}", self.nested) if type(row) is dict else row
                for i, row in enumerate(rows)
            ]
        for i, row in enumerate(rows):
            if not isinstance(row, dict):
                errors.append(FieldError(f"{at}/{i}", "a row is an object of features"))
            elif row.keys() != known:
                errors += self._wrong_names(row, f"{at}/{i}")
            if len(errors) >= _MOST_ERRORS:
                break
        _raise(errors)
        columns = {name: [row[name] for row in rows] for name in known}
        return self._table(columns, in_rows(at))

    def of_columns(
        self, columns: dict[str, Any], at: str = "/columns", place: Place | None = None
    ) -> pa.Table:
        """Return the table of ``{"x": [0.5]}``, which stands ``at`` a place of the request;
        ``place`` is that of a value where it is not in such an object."""
        errors = self._wrong_names(columns, at)
        errors += [
            FieldError(f"{at}/{escape(name)}", "a column is a list of values")
            for name, values in columns.items()
            if name in self._features and not isinstance(values, list)
        ]
        _raise(errors)
        lengths = {name: len(columns[name]) for name in self._features}
        most = max(lengths.values())
        for name, length in lengths.items():
            if length != most:
                detail = f"{length} values where another has {most}"
                errors.append(FieldError(f"{at}/{escape(name)}", detail))
        _raise(errors)
        ordered = {name: columns[name] for name in self._features}
        return self._table(ordered, place or in_columns(at))

    def of_instances(
        self, instances: Sequence[Any], at: str = "/instances", names: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the table of ``[[0.5]]``, values in the order of the features, or of ``names``."""
        if names is None:
            names = self.names
        else:
            _raise(self._wrong_names(dict.fromkeys(names), at.rpartition("/")[0] + "/columns"))
        listed = ", ".join(names)[:256]
        wrong = (
            i
            for i, instance in enumerate(instances)
            if not isinstance(instance, list) or len(instance) != len(names)
        )
        detail = f"an instance is a list of {len(names)}: {listed}"
        _raise([FieldError(f"{at}/{i}", detail) for i in islice(wrong, _MOST_ERRORS)])
        places = {name: j for j, name in enumerate(names)}
        columns = {name: [row[places[name]] for row in instances] for name in self._features}
        return self._table(columns, in_lists(names, at))

    def _wrong_names(self, given: Iterable[str], pointer: str) -> list[FieldError]:
        given = dict.fromkeys(given)
        errors = [
            FieldError(
                f"{pointer}/{escape(name)}",
                f"the feature '{name[:64]}' is missing; send a value, or null where it is unknown",
                "missing",
            )
            for name in self._features
            if name not in given
        ]
        for name in islice(self._unknown(given), _MOST_ERRORS):
            guess = nearest(name, self._features)
            remedy = f"did you mean '{guess[:64]}'?" if guess else "leave it out"
            detail = f"unknown feature '{name[:64]}'; {remedy}"
            errors.append(FieldError(f"{pointer}/{escape(name)}", detail, "unknown"))
        return errors

    def _unknown(self, given: Iterable[str]) -> Iterator[str]:
        if self._ignored is not None:
            ignored = self._ignored
            yield from (n for n in given if n not in self._features and n not in ignored)

    def _table(self, columns: dict[str, list[Any]], place: Place) -> pa.Table:
        if not next(iter(columns.values())):
            raise no_rows()
        errors: list[FieldError] = []
        columns = {**columns}
        for name, values in columns.items():
            kind = self._features[name].type
            if self.gaps:
                values = columns[name] = [None if v in self.gaps else v for v in values]
            wrong = COLUMN_TYPES[kind].misfits(values)
            if any(isinstance(values[i], str) for i in wrong):
                values = columns[name] = self._read(name, values)
                wrong = COLUMN_TYPES[kind].misfits(values)
            first = wrong[: _MOST_ERRORS - len(errors)]
            errors += [self._misfit(name, values[i], place(name, i)) for i in first]
        _raise(errors)
        for name, values in columns.items():
            if self._features[name].type in ("category", "text"):
                _require_storable(name, values, place)
        return pa.table(
            {
                name: COLUMN_TYPES[self._features[name].type].array(values)
                for name, values in columns.items()
            }
        )

    def _misfit(self, name: str, value: Any, pointer: str) -> FieldError:
        wanted = self._example(name, self._features[name].type)
        detail = f"'{name[:64]}' wants {wanted} or null, got {_quoted(value)}"
        return FieldError(pointer, detail, "wrong_type")

    def _example(self, name: str, kind: TypeName) -> str:
        notation = self._notations.get(name)
        example = COLUMN_TYPES[kind].example
        if kind != "datetime" or notation is None or notation.date_format is None:
            return example
        return f"{example}, or one written as in training ({notation.date_format[:64]}),"

    def _read(self, name: str, values: list[Any]) -> list[Any]:
        """Return values with strings as numbers, booleans or ISO 8601, where they are that."""
        kind = self._features[name].type
        places = [i for i, value in enumerate(values) if isinstance(value, str)]
        known = Cells(self._options, notation=self._notations.get(name), of_model=True)
        read = _Strings(kind, known).read([values[i] for i in places])
        values = [*values]
        for i, value in zip(places, read, strict=True):
            values[i] = value
        return values

    # ------------------------------------------------------------ tables

    def check_columns(self, names: Sequence[str]) -> None:
        """Raise InvalidRequest where names lack a feature, have another column or stand twice."""
        _raise(self._wrong_names(names, "/columns"))
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            detail = f"two columns are called '{twice[:64]}'; rename one"
            raise InvalidRequest.at(f"/columns/{escape(twice)}", detail)

    def of_table(self, table: pa.Table, first_row: int = 0) -> pa.Table:
        """Return the features among the columns of a table whose names have been checked.

        ``first_row`` is the number of its first row, for errors.
        """

        def place(name: str, row: int) -> tuple[str, str]:
            number = first_row + row
            return f"row {number}", f"/rows/{number}/{escape(name)}"

        columns = {}
        for name, feature in self._features.items():
            column = table[name]
            if feature.type == "number" and pa.types.is_boolean(column.type):
                row = pc.index(column.is_valid(), True).as_py()
                if row >= 0:  # typed_column would have it as 0 or 1
                    _raise([self._misfit(name, column[row].as_py(), place(name, row)[1])])
            if feature.type == "number" and _is_plain_number(column):
                columns[name] = column
            elif column.null_count == len(column):
                columns[name] = pa.chunked_array(
                    [pa.nulls(len(column), COLUMN_TYPES[feature.type].arrow)]
                )
            else:
                cells = Cells(self._options, notation=self._notations.get(name), of_model=True)
                columns[name] = typed_column(
                    name, column, feature.type, place, has_types=True, cells=cells
                ).values
        return pa.table(columns)


def no_rows(at: str | None = None) -> InvalidRequest:
    """Return the error of a request without rows; ``at`` is its place where that is known."""
    detail = "there are no rows to predict; send at least one"
    return InvalidRequest(detail) if at is None else InvalidRequest.at(at, detail)


def _is_plain_number(column: pa.ChunkedArray) -> bool:
    """What a number feature encodes as it is; NaN would have to become missing first, and
    infinity an error."""
    if pa.types.is_float32(column.type) or pa.types.is_float64(column.type):
        return bool(pc.all(pc.is_finite(column), min_count=0).as_py())
    return bool(pa.types.is_integer(column.type))


class _Strings:
    """Reads strings as values of a feature's type."""

    def __init__(self, kind: TypeName, known: Cells) -> None:
        self._kind, self._known = kind, known
        self._tries = _MOST_TRIES

    def read(self, texts: list[str]) -> list[Any]:
        """Return values as JSON has them; of strings that cannot be read the first stay as they
        are, and what stands behind them may be left out as gaps."""
        if (found := self._whole(texts)) is not None:
            return found
        # the request will be refused, so only what is wrong has to be found out
        found = [None] * len(texts)
        first = first_misfit(_column(texts), self._read)
        found[first] = texts[first]  # it may be readable, only not beside those before it
        self._fill(found, texts, [*range(first + 1, min(len(texts), first + _MOST_LOOKED_AT))])
        return found

    def _fill(self, found: list[Any], texts: list[str], places: list[int]) -> None:
        if not places or not self._tries:
            return
        self._tries -= 1
        values = self._whole([texts[i] for i in places])
        if values is not None:
            for i, value in zip(places, values, strict=True):
                found[i] = value
        elif len(places) == 1:
            found[places[0]] = texts[places[0]]
        else:
            half = len(places) // 2
            self._fill(found, texts, places[:half])
            self._fill(found, texts, places[half:])

    def _read(self, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
        found = strings.read_as(column, self._kind, self._known)
        return found.values if isinstance(found, Found) else None

    def _whole(self, texts: list[str]) -> list[Any] | None:
        read = self._read(_column(texts))
        if read is None:
            return None
        values: list[Any] = read.to_pylist()
        return [iso(value) for value in values] if self._kind == "datetime" else values


def _column(texts: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, pa.string())])


def _require_storable(name: str, values: list[Any], place: Place) -> None:
    """Raise InvalidData at the first string that no file may have either: with a NUL, or longer
    than a cell may be."""
    for row, value in enumerate(values):
        if value is None:
            continue
        if "\0" in value:
            detail = f"'{name[:64]}' holds a NUL character in row {row}; remove it"
            raise InvalidData.at(place(name, row), detail, "nul")
        if len(value) > MAX_CELL_BYTES // 4 and len(value.encode()) > MAX_CELL_BYTES:
            raise cell_too_long(f"'{name[:64]}' in row {row}", place(name, row))


def _quoted(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value[:64]}'"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return str(value).lower()[:64]


def _raise(errors: list[FieldError]) -> None:
    if errors:
        raise InvalidRequest(errors[0].detail, errors[:_MOST_ERRORS])
