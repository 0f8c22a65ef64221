"""What is to be known of a type of columns: how it is recognised and read in strings, described,
fitted on the training part, and taken from requests. One file a type has all of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from app.ml.column_types.canonical import TypeName
from app.ml.column_types.cells import Found, Read
from app.ml.column_types.notations.notation import Cells
from app.ml.specs import PreprocessingSpec

Put = Callable[[Any, list[float]], bool]
"""Writes one value into a row of the matrix, and returns whether it could; what it could not is
left to the way through a table."""


@dataclass(frozen=True)
class Width:
    """The columns of the matrix that a column of a table takes."""

    dense: int
    """Columns that a layer can multiply, those of numbers first."""
    numbers: int = 0
    """Of these hold numbers, rather than marks of categories, booleans and gaps."""
    embedding: tuple[int, int] | None = None
    """``(rows, dimensions)`` of the embedding in which its codes are looked up."""


class ColumnType(ABC):
    """One type of columns."""

    name: ClassVar[TypeName]
    arrow: ClassVar[pa.DataType]
    """Of a column that a request brings."""
    datatype: ClassVar[str] = "BYTES"
    """That of the Open Inference Protocol."""
    example: ClassVar[str]
    """What a value is in JSON, for errors."""
    written: ClassVar[str] = ""
    """How a cell is written, for errors."""
    plain: ClassVar[str]
    """A regular expression that every plain cell matches."""
    begins: ClassVar[str]
    """A regular expression of how any cell begins that may be one in some notation."""
    readers: ClassVar[tuple[Read, ...]] = ()
    """How distinct cells are read in other notations, the first first."""

    # ------------------------------------------------------------ from strings

    def read_plain(self, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """Return strings as values, where all are beyond doubt."""
        return None

    def read_asked(self, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """Return plain strings as values, where the client says that they are."""
        return self.read_plain(column)

    def of_plain(self, column: pa.ChunkedArray, values: pa.ChunkedArray, known: Cells) -> Found:
        """Return plain cells and the ``values`` that were read in them as what they mean."""
        return Found(self.name, values)

    # ------------------------------------------------------------ described

    @abstractmethod
    def profile(self, column: pa.ChunkedArray, detailed: bool) -> dict[str, Any]:
        """Return what is told of a canonical column; ``detailed`` with quantiles and histogram."""

    # ------------------------------------------------------------ fitted

    @abstractmethod
    def fit(self, name: str, column: pa.ChunkedArray, spec: PreprocessingSpec) -> Any:
        """Return the feature of a column of the training part ``(rows,)``."""

    @abstractmethod
    def width(self, column: dict[str, Any], spec: PreprocessingSpec) -> Width:
        """Return what a column of this profile takes at the most."""

    # ------------------------------------------------------------ from requests

    def fits(self, value: Any) -> bool:
        """Return whether a value of JSON that is not null is one of this type."""
        return isinstance(value, str)

    def misfits(self, values: Sequence[Any]) -> list[int]:
        """Return the places of values of JSON that are neither null nor of this type."""
        return [i for i, v in enumerate(values) if v is not None and not self.fits(v)]

    def array(self, values: list[Any]) -> pa.Array:
        """Return values of JSON that fit as an Arrow array ``(values,)``."""
        return pa.array(values, self.arrow)
