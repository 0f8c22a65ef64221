"""Numbers that are written short: ``1.2k``, ``$3.4M``, ``5 Mio. €``."""

import pyarrow as pa
import pyarrow.compute as pc

from app.ml.column_types.arrays import groups, hits
from app.ml.column_types.notations import numbers
from app.ml.column_types.notations.notation import Cells, Recognised, Undecided

_FACTORS = {**numbers.MAGNITUDES, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_WORDS = "|".join(sorted(_FACTORS, key=len, reverse=True))
_SHORT = (
    rf"(?i)^(?P<before>.*[0-9.,])\s?(?P<word>{_WORDS})\.?"
    r"(?P<after>[^A-Za-z0-9]*|\s+[A-Z]{3})$"
)
_OTHERWISE = {"m", "b", "t"}
"""They may be metres, bytes and tonnes."""


def recognise(cells: pa.Array, known: Cells) -> Recognised | None:
    """Return distinct ``cells`` as float64; None where one is none, or it is not beyond doubt that
    words multiply: 3M and 5M may be names, 1.5m and 2m heights."""
    if known.notation is not None and known.notation.unit == "s":
        return None  # 90m are minutes there
    plain = pc.utf8_trim_whitespace(cells)
    parts = numbers.named(groups(plain, _SHORT))
    words = pc.utf8_lower(parts["word"])
    kinds = {*pc.unique(words.drop_null()).to_pylist()}
    if not kinds:
        return None
    bare = pc.binary_join_element_wise(parts["before"], parts["after"], "")
    read = numbers.recognise(pc.coalesce(bare, plain), known, codes=False)
    if read is None or isinstance(read, Undecided):
        return None
    learnt = known.notation is not None and known.notation.short
    if not learnt and not _multiply(kinds, read.notation.unit, plain):
        return None
    factors = [1.0 if word is None else _FACTORS[word] for word in words.to_pylist()]
    values = pc.multiply(read.values, pa.array(factors))
    return Recognised(values, read.notation.model_copy(update={"short": True}))


def _multiply(kinds: set[str], unit: str | None, cells: pa.Array) -> bool:
    """Whether words behind numbers multiply them; letters beside another unit are one themselves,
    as in 5 m and 3 km, and by themselves they may be names, as 5K and 3B."""
    if kinds <= numbers.MAGNITUDES.keys() or (unit and numbers.is_currency(unit)):
        return True
    if unit:
        return False
    shows = numbers.shows_marks(cells)
    if len(kinds) == 1:
        return bool(kinds - _OTHERWISE) and shows
    return shows or bool(hits(cells, r"^[-+]?[0-9]+$").any())
