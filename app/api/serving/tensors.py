"""Tensors of the Open Inference Protocol v2 (KServe), as JSON or binary data, all checked."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidRequest

NUMBERS: dict[str, Any] = {
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
_DTYPES = {**NUMBERS, "BOOL": np.dtype("?")}
_LENGTH_BYTES = 4
"""In front of each element of BYTES."""
_MOST_RANK = 8


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input; ``values`` is ``(prod(shape),)`` in row-major order, of dtype object where it has
    strings or gaps."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any]
    pointer: str
    """Where it stands in the request, as a JSON pointer."""


def read_tensors(inputs: Any, binary: memoryview) -> list[Tensor]:
    """Return the request's ``inputs``; their binary data stands in ``binary`` in their order.

    Raises InvalidRequest naming the place.
    """
    if not isinstance(inputs, list) or not inputs:
        raise InvalidRequest.at("/inputs", "'inputs' should be a list of at least one tensor")
    found: list[Tensor] = []
    names = set()
    for i, item in enumerate(inputs):
        tensor, used = _read_tensor(item, f"/inputs/{i}", binary)
        if tensor.name in names:
            raise InvalidRequest.at(tensor.pointer, f"two tensors are called '{tensor.name[:64]}'")
        binary = binary[used:]
        names.add(tensor.name)
        found.append(tensor)
    if len(binary):
        raise InvalidRequest.at(
            "/inputs", f"{len(binary)} bytes of binary data are left that no tensor claims"
        )
    return found


def _read_tensor(item: Any, pointer: str, binary: memoryview) -> tuple[Tensor, int]:
    """Return a tensor, and how many bytes of ``binary`` are its data."""
    if not isinstance(item, dict):
        raise InvalidRequest.at(pointer, "a tensor is an object")
    name, datatype, shape = item.get("name"), item.get("datatype"), item.get("shape")
    if not isinstance(name, str) or not name:
        raise InvalidRequest.at(f"{pointer}/name", "a tensor has a name")
    if not isinstance(datatype, str) or (datatype not in _DTYPES and datatype != "BYTES"):
        known = ", ".join([*_DTYPES, "BYTES"])
        raise InvalidRequest.at(
            f"{pointer}/datatype", f"unknown datatype '{str(datatype)[:64]}'; there are {known}"
        )
    if not isinstance(shape, list) or not _is_shape(shape):
        raise InvalidRequest.at(
            f"{pointer}/shape",
            f"a shape is a list of at most {_MOST_RANK} whole numbers below 2^31, like [2, 8]",
        )
    parameters = item.get("parameters")
    if not isinstance(parameters, dict | None):
        raise InvalidRequest.at(f"{pointer}/parameters", "'parameters' should be an object")
    size = parameters.get("binary_data_size") if parameters else None
    if size is None:
        values, used = _of_json(item.get("data"), datatype, prod(shape), f"{pointer}/data"), 0
    else:
        if type(size) is not int or not 0 <= size <= len(binary) or "data" in item:
            raise InvalidRequest.at(
                f"{pointer}/parameters/binary_data_size",
                f"'{name[:64]}' claims {str(size)[:64]} bytes of binary data, where {len(binary)} "
                "are left; send the size of its data, and no 'data' beside it",
            )
        values, used = _of_binary(binary[:size], datatype, prod(shape), pointer), size
    return Tensor(name, datatype, tuple(shape), values, pointer), used


def _is_shape(shape: list[Any]) -> bool:
    whole = all(type(size) is int and 0 <= size < 2**31 for size in shape)
    return 0 < len(shape) <= _MOST_RANK and whole


# ---------------------------------------------------------------- binary data


def _of_binary(data: memoryview, datatype: str, count: int, pointer: str) -> NDArray[Any]:
    if datatype == "BYTES":
        return _strings(data, count, pointer)
    dtype = _DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise InvalidRequest.at(
            f"{pointer}/shape",
            f"{count} values of {datatype} are {count * dtype.itemsize} bytes, but there are "
            f"{len(data)}",
        )
    if datatype == "BOOL":
        return np.frombuffer(data, np.uint8).astype(bool)
    values: NDArray[Any] = np.frombuffer(data, dtype)
    return values


def _strings(data: memoryview, count: int, pointer: str) -> NDArray[Any]:
    """Return strings, in UTF-8 each behind its length as four bytes, little-endian."""
    found: list[str] = []
    place = 0
    try:
        while place < len(data):
            start = place + _LENGTH_BYTES
            place = start + int.from_bytes(data[place:start], "little")
            if start > len(data) or place > len(data):
                raise InvalidRequest.at(
                    pointer, f"string {len(found)} is longer than its tensor's data"
                )
            found.append(str(data[start:place], "utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidRequest.at(pointer, f"string {len(found)} is no UTF-8") from error
    if len(found) != count:
        raise InvalidRequest.at(
            f"{pointer}/shape", f"the shape wants {count} strings, but there are {len(found)}"
        )
    return _objects(found)


def pack_binary(datatype: str, values: NDArray[Any]) -> bytes:
    """Return an output as binary data, in row-major order."""
    if datatype != "BYTES":
        return values.astype(_DTYPES[datatype], copy=False).tobytes()
    parts = (text.encode() for text in values.ravel().tolist())
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "little") + part for part in parts)


# ---------------------------------------------------------------- JSON


def _of_json(data: Any, datatype: str, count: int, pointer: str) -> NDArray[Any]:
    """Return flat or nested lists as ``(count,)``."""
    if not isinstance(data, list):
        raise InvalidRequest.at(pointer, "a tensor wants 'data', or binary data and its size")
    flat = data
    for _ in range(_MOST_RANK):
        if not flat or not all(isinstance(item, list) for item in flat):
            break
        flat = list(chain.from_iterable(flat))
    if len(flat) != count:
        raise InvalidRequest.at(
            pointer, f"the shape wants {count} values, but there are {len(flat)}"
        )
    wrong = next(_wrong_places(flat, datatype), None)
    if wrong is not None:
        value = str(flat[wrong])[:64]
        raise InvalidRequest.at(f"{pointer}/{wrong}", f"value {wrong} ({value}) is no {datatype}")
    if datatype == "BYTES":
        return _objects(flat)
    if None not in flat:
        return np.array(flat, _DTYPES[datatype])
    values = np.array([value or 0 for value in flat], _DTYPES[datatype]).astype(object)
    values[[value is None for value in flat]] = None
    return values


def _wrong_places(flat: list[Any], datatype: str) -> Iterator[int]:
    """Yield the places of values that ``datatype`` does not hold; ``None`` is a gap."""
    if datatype == "BYTES" or datatype == "BOOL":
        kind = str if datatype == "BYTES" else bool
        return (i for i, v in enumerate(flat) if v is not None and type(v) is not kind)
    limits: Any = np.finfo if _DTYPES[datatype].kind == "f" else np.iinfo
    kinds = (int, float) if limits is np.finfo else (int,)
    ends = limits(_DTYPES[datatype])
    low, high = ends.min, ends.max
    return (
        i
        for i, v in enumerate(flat)
        if v is not None and not (type(v) in kinds and low <= v <= high)
    )


def _objects(values: list[Any]) -> NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found
