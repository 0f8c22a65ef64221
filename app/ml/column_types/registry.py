"""The types of columns, by the names that the contract has for them."""

from app.ml.column_types.base import ColumnType
from app.ml.column_types.booleans import Boolean
from app.ml.column_types.canonical import TypeName
from app.ml.column_types.categories import Category
from app.ml.column_types.datetimes import Datetime
from app.ml.column_types.numbers import Number
from app.ml.column_types.texts import Text

COLUMN_TYPES: dict[TypeName, ColumnType] = {
    kind.name: kind for kind in (Boolean(), Number(), Datetime(), Category(), Text())
}
"""Those that strings may be read as come first, in the order in which they are tried."""
READ_FROM_STRINGS: tuple[TypeName, ...] = ("boolean", "number", "datetime")
