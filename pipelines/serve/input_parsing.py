"""Inputs in JSON -> arrays of the type and shape that a signature asks for.

An error names the input and the row, what is expected, and what was received.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from itertools import chain

import numpy as np

from pipelines.export.client import LENGTH_SUFFIX, pad
from pipelines.serve.errors import RequestError
from pipelines.serve.signatures import NUMPY_TYPES, TensorInfo

Shape = Sequence[int | None]

MAX_PADDED_VALUES = 4_000_000
"""Most values in padded sequences: one long row among many short ones could take all memory."""


def parse_tensor(name: str, value: object, tensor: TensorInfo) -> np.ndarray:
    """An input without a batch axis. Raises RequestError (400)."""
    shape = (None,) * _depth(value) if tensor.shape is None else tensor.shape
    scalars, sizes = _flatten(name, value, tensor.dtype, shape)
    return _to_array(scalars, tensor.dtype).reshape(sizes)


def parse_rows(name: str, value: object, tensor: TensorInfo) -> np.ndarray:
    """An input (B, ...) whose rows all have the same shape. Raises RequestError (400)."""
    rows, sizes = _flatten_rows(name, value, tensor)
    for index, size in enumerate(sizes):
        if size != sizes[0]:
            raise RequestError(
                400,
                f"{name}: row {index} must be {_describe_type(tensor.dtype, sizes[0])}, like row 0"
                f"{describe_received(_part(value, index))}",
            )
    inner = sizes[0] if sizes else [size or 0 for size in (tensor.shape or ())[1:]]
    scalars = list(chain.from_iterable(rows))
    return _to_array(scalars, tensor.dtype).reshape(len(rows), *inner)


def parse_sequences(
    name: str, value: object, lengths: object, tensor: TensorInfo
) -> tuple[np.ndarray, np.ndarray]:
    """An input (B, T, ...) of rows with different lengths, padded; and the lengths, (B,) int32.

    lengths  as the client sent them, None for none: then they are the rows' own.
    Raises RequestError (400).
    """
    rows, sizes = _flatten_rows(name, value, tensor)
    steps = next((size[1:] for size in sizes if size[0]), None)
    for index, size in enumerate(sizes):
        if size[0] and size[1:] != steps:
            raise RequestError(
                400,
                f"{name}: row {index} must be "
                f"{_describe_type(tensor.dtype, (None, *(steps or ())))}, "
                f"like the rows before{describe_received(_part(value, index))}",
            )
    longest = max((size[0] for size in sizes), default=0)
    padded = len(rows) * longest * math.prod(steps or ())
    if padded - sum(map(len, rows)) > MAX_PADDED_VALUES:
        raise RequestError(
            400,
            f"{name}: rows of such different lengths would be padded to {padded:,} values: send "
            "long rows in a request of their own",
        )
    arrays = [_to_array(row, tensor.dtype).reshape(s) for row, s in zip(rows, sizes, strict=True)]
    dtype = np.dtype(NUMPY_TYPES[tensor.dtype])
    own = [size[0] for size in sizes]
    return pad(arrays, dtype, (tensor.shape or ())[2:]), _parse_lengths(name, lengths, own)


def _parse_lengths(name: str, lengths: object, own: Sequence[int]) -> np.ndarray:
    """Lengths that a client sent. A client that pads its rows itself sends what it added to."""
    if lengths is None:
        return np.array(own, np.int32)
    name = f"{name}{LENGTH_SUFFIX}"
    if not isinstance(lengths, list) or len(lengths) != len(own):
        raise RequestError(
            400,
            f"{name} must be a list of {len(own)} whole numbers, one a row"
            f"{describe_received(lengths)}",
        )
    sizes = [size if length is None else length for length, size in zip(lengths, own, strict=True)]
    for index, (length, size) in enumerate(zip(sizes, own, strict=True)):
        if type(length) is not int or not 0 <= length <= size:
            raise RequestError(
                400,
                f"{name}: row {index} must be a whole number from 0 to {size}, the length of the "
                f"row{describe_received(length)}",
            )
    return np.array(sizes, np.int32)


def _flatten_rows(
    name: str, value: object, tensor: TensorInfo
) -> tuple[list[list[object]], list[tuple[int, ...]]]:
    """Each row's scalars and its sizes."""
    shape = (tensor.shape or ())[1:]
    if not isinstance(value, list):
        raise RequestError(
            400,
            f"{name} must be a list of rows, each {_describe_type(tensor.dtype, shape)}"
            f"{describe_received(value)}",
        )
    pairs = [
        _flatten(f"{name}: row {index}", row, tensor.dtype, shape)
        for index, row in enumerate(value)
    ]
    return [scalars for scalars, _ in pairs], [sizes for _, sizes in pairs]


def _flatten(
    where: str, value: object, dtype: str, shape: Shape
) -> tuple[list[object], tuple[int, ...]]:
    """The scalars in nested lists, and the lists' sizes. Goes down one axis after the other."""
    sizes: list[int] = []
    level: list[object] = [value]
    for fixed_size in shape:
        size, inner = fixed_size, []
        for part in level:
            if not isinstance(part, list):
                raise _misfit(where, part, dtype, shape)
            size = len(part) if size is None else size
            if len(part) != size and fixed_size is None:
                expected = _describe_type(dtype, shape)
                raise RequestError(
                    400,
                    f"{where} must be {expected}, all equally long; received lists of {size} and "
                    f"{len(part)}",
                )
            if len(part) != size:
                raise _misfit(where, part, dtype, shape)
            inner.append(part)
        sizes.append(size or 0)
        level = list(chain.from_iterable(inner))
    return _parse_scalars(where, level, dtype, shape), tuple(sizes)


def _misfit(where: str, part: object, dtype: str, shape: Shape) -> RequestError:
    return RequestError(
        400, f"{where} must be {_describe_type(dtype, shape)}{describe_received(part)}"
    )


def _parse_scalars(where: str, values: list[object], dtype: str, shape: Shape) -> list[object]:
    """Text as bytes, numbers unchanged. Raises RequestError (400) for another type or range."""
    if dtype not in NUMPY_TYPES:
        raise RequestError(400, f"{where}: values of type {dtype} can't be given in JSON")
    if dtype == "DT_STRING":
        return [_parse_text(where, value, shape) for value in values]
    kind = np.dtype(NUMPY_TYPES[dtype])
    # bool is a subclass of int in Python, but true is no number: so types are compared exactly.
    allowed: tuple[type, ...] = {"b": (bool,), "f": (int, float)}.get(kind.kind, (int,))
    smallest, largest = _range(kind)
    for value in values:
        if type(value) not in allowed:
            raise _misfit(where, value, dtype, shape)
        if not smallest <= value <= largest:  # type: ignore[operator]
            raise RequestError(400, f"{where}: a number is out of the range of {kind}")
    return values


def _range(kind: np.dtype) -> tuple[float, float]:
    """The smallest and the largest number. As Python's: NumPy can't compare with any int."""
    if kind.kind == "b":
        return False, True
    if kind.kind == "f":
        return -float(np.finfo(kind).max), float(np.finfo(kind).max)
    return int(np.iinfo(kind).min), int(np.iinfo(kind).max)


def _parse_text(where: str, value: object, shape: Shape) -> bytes:
    try:
        if isinstance(value, str):
            return value.encode("utf-8")
        if is_base64(value):
            return base64.b64decode(value["b64"], validate=True)  # type: ignore[index]
    except UnicodeEncodeError:
        raise RequestError(400, f"{where}: half of a surrogate pair is no text") from None
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, f"{where}: invalid base64: {error}") from None
    raise _misfit(where, value, "DT_STRING", shape)


def is_base64(value: object) -> bool:
    """Whether a JSON value stands for bytes: {"b64": "..."}."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _to_array(scalars: list[object], dtype: str) -> np.ndarray:
    # Of a list of bytes alone, NumPy would make fixed-width strings without trailing zero bytes.
    return np.array(scalars, NUMPY_TYPES[dtype])


def _depth(value: object) -> int:
    """The depth of nested lists, where the signature leaves it open; at most NumPy's limit."""
    depth = 0
    while isinstance(value, list) and value and depth < 32:
        value, depth = value[0], depth + 1
    return depth


def _part(value: object, index: int) -> object:
    return value[index] if isinstance(value, list) else value


def _describe_type(dtype: str, shape: Shape) -> str:
    """The expected type in words: "a whole number", "a list of lists of 3 numbers"."""
    one, many = {
        "DT_STRING": ('text or {"b64": ...}', "text"),
        "DT_BOOL": ("true or false", "true or false"),
    }.get(dtype, ("a whole number", "whole numbers") if "INT" in dtype else ("a number", "numbers"))
    if not shape:
        return one
    for size in reversed(shape):
        many = f"lists of {'' if size is None else f'{size} '}{many}"
    return f"a list{many.removeprefix('lists')}"


def describe_received(value: object) -> str:
    """A few words on the value that was received, which may be as large as a request's body."""
    if isinstance(value, dict):
        description = "an object with " + ", ".join(repr(key[:30]) for key in list(value)[:5])
    elif isinstance(value, list):
        description = f"a list of {len(value)}"
    else:
        text = json.dumps(value)
        description = text if len(text) <= 60 else f"{text[:57]}..."
    return f"; received {description}"
