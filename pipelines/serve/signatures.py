"""TensorFlow Serving's JSON <-> arrays, by what a SavedModel's signatures say of them.

https://www.tensorflow.org/tfx/serving/api_rest says which forms there are.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from pipelines.serve.errors import RequestError
from pipelines.serve.image_size import pixels

NUMBERS: dict[str, type[np.generic]] = {
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_HALF": np.float16,
    "DT_INT8": np.int8,
    "DT_INT16": np.int16,
    "DT_INT32": np.int32,
    "DT_INT64": np.int64,
    "DT_UINT8": np.uint8,
    "DT_UINT16": np.uint16,
    "DT_UINT32": np.uint32,
    "DT_UINT64": np.uint64,
    "DT_BOOL": np.bool_,
}


@dataclass(frozen=True)
class Tensor:
    """An input or output. shape: sizes, None where any will do; or None if even that is open."""

    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def rows(self) -> bool:
        """Whether the first axis has as many places as there are rows."""
        return bool(self.shape) and self.shape is not None and self.shape[0] is None


@dataclass(frozen=True)
class Signature:
    """What a SavedModel can be asked for by one name."""

    name: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    @property
    def together(self) -> bool:
        """Whether rows of several requests can be answered together."""
        return all(tensor.rows for tensor in (*self.inputs.values(), *self.outputs.values()))


@dataclass(frozen=True)
class Question:
    """A parsed request. by_row: it has "instances", so the answer has "predictions"."""

    signature: Signature
    columns: Mapping[str, np.ndarray]
    rows: int
    by_row: bool


def read_signatures(definitions: Mapping[str, Any]) -> dict[str, Signature]:
    """From SignatureDefs as JSON; those that only TensorFlow itself calls are left out."""
    return {
        name: Signature(name, _tensors(one["inputs"]), _tensors(one["outputs"]))
        for name, one in definitions.items()
        if one["method_name"] == "tensorflow/serving/predict"
    }


def _tensors(infos: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = {}
    for name, info in infos.items():
        shape = info["tensor_shape"]
        sizes = tuple(None if int(d["size"]) < 0 else int(d["size"]) for d in shape["dim"])
        tensors[name] = Tensor(info["dtype"], None if shape["unknown_rank"] else sizes)
    return tensors


def parse(
    body: bytes, signatures: Mapping[str, Signature], *, max_rows: int, max_pixels: int
) -> Question:
    """The question in a request's body. Raises RequestError (400) with what is wrong with it.

    max_pixels  of a picture that is sent as base64.
    """
    try:
        asked = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the body must be UTF-8: byte {error.start} isn't") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body must be JSON: {error}") from None
    if not isinstance(asked, dict):
        raise RequestError(400, f'must be an object like {{"instances": [...]}}{_not(asked)}')
    name = asked.get("signature_name") or "serving_default"
    if not isinstance(name, str) or name not in signatures:
        known = ", ".join(signatures)
        raise RequestError(400, f"signature_name: must be one of {known}{_not(name)}")
    if ("instances" in asked) == ("inputs" in asked):
        raise RequestError(400, 'the body must have either "instances" or "inputs"')
    signature = signatures[name]
    by_row = "instances" in asked
    if by_row:
        values = _by_name(asked["instances"], signature.inputs, max_rows)
    else:
        values = _by_column(asked["inputs"], signature.inputs)
    columns = {key: array(key, values[key], tensor) for key, tensor in signature.inputs.items()}
    _check_pictures(columns, max_pixels)
    return Question(signature, columns, _row_count(signature, columns, max_rows), by_row)


def _by_name(instances: Any, inputs: Mapping[str, Tensor], max_rows: int) -> dict[str, list[Any]]:
    """Lists of the rows' values, by input."""
    if not isinstance(instances, list):
        raise RequestError(400, f"instances: must be a list{_not(instances)}")
    if not 1 <= len(instances) <= max_rows:
        raise RequestError(400, f"instances: must be 1 to {max_rows} rows{_not(instances)}")
    named = [isinstance(row, dict) and not _is_base64(row) for row in instances]
    if not any(named):
        return {_only(inputs, "instances"): instances}
    for index, row in enumerate(instances):
        if not named[index] or row.keys() != inputs.keys():
            wanted = ", ".join(inputs)
            raise RequestError(400, f"instances[{index}]: must have just {wanted}{_not(row)}")
    return {name: [row[name] for row in instances] for name in inputs}


def _by_column(given: Any, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    if not isinstance(given, dict) or _is_base64(given):
        return {_only(inputs, "inputs"): given}
    if given.keys() != inputs.keys():
        raise RequestError(400, f"inputs: must have just {', '.join(inputs)}{_not(given)}")
    return given


def _only(inputs: Mapping[str, Tensor], where: str) -> str:
    """The name of the one input that may go without."""
    if len(inputs) != 1:
        raise RequestError(400, f"{where}: values must be named: {', '.join(inputs)}")
    return next(iter(inputs))


def _row_count(signature: Signature, columns: Mapping[str, np.ndarray], max_rows: int) -> int:
    """The number of rows, which inputs that are answered row by row must agree in."""
    counts = {len(values) for name, values in columns.items() if signature.inputs[name].rows}
    if len(counts) > 1:
        raise RequestError(400, f"inputs: all must have as many rows; received {sorted(counts)}")
    rows = counts.pop() if counts else 1
    if not 1 <= rows <= max_rows:
        raise RequestError(400, f"inputs: must be 1 to {max_rows} rows; received {rows}")
    return rows


def array(name: str, value: Any, tensor: Tensor) -> np.ndarray:
    """Nested lists as an array of the tensor's type and shape. Raises RequestError (400)."""
    sizes, level = [], [value]
    for axis in range(_depth(value) if tensor.shape is None else len(tensor.shape)):
        for part in level:
            if not isinstance(part, list):
                raise RequestError(400, f"{name}: must be {_form(tensor)}{_not(part)}")
        lengths = {len(part) for part in level} or {0}
        if len(lengths) > 1:
            raise RequestError(400, f"{name}: lists side by side must be equally long")
        sizes.append(lengths.pop())
        wanted = tensor.shape[axis] if tensor.shape else None
        if wanted not in (None, sizes[-1]):
            raise RequestError(400, f"{name}: axis {axis} must have size {wanted}{_not(sizes[-1])}")
        level = list(chain.from_iterable(level))
    return _scalars(name, level, tensor).reshape(sizes)


def _depth(value: Any) -> int:
    """How deep lists are nested, where the signature leaves that open; NumPy has a limit."""
    depth = 0
    while isinstance(value, list) and value and depth < 32:
        value, depth = value[0], depth + 1
    return depth


def _scalars(name: str, values: list[Any], tensor: Tensor) -> np.ndarray:
    if tensor.dtype == "DT_STRING":
        return _strings(name, values)
    if tensor.dtype not in NUMBERS:
        raise RequestError(400, f"{name}: values of type {tensor.dtype} can't be given in JSON")
    kind = np.dtype(NUMBERS[tensor.dtype])
    allowed: tuple[type, ...] = {"b": (bool,), "f": (int, float)}.get(kind.kind, (int,))
    for value in values:
        if type(value) not in allowed:
            raise RequestError(400, f"{name}: must be {_form(tensor)}{_not(value)}")
    try:
        return np.array(values, kind)
    except OverflowError:
        raise RequestError(400, f"{name}: a number is out of the range of {kind}") from None


def _strings(name: str, values: list[Any]) -> np.ndarray:
    found = np.empty(len(values), object)
    for index, value in enumerate(values):
        try:
            if isinstance(value, str):
                found[index] = value.encode("utf-8")
            elif _is_base64(value):
                found[index] = base64.b64decode(value["b64"], validate=True)
            else:
                raise RequestError(400, f'{name}: must be text or {{"b64": ...}}{_not(value)}')
        except UnicodeEncodeError:
            raise RequestError(400, f"{name}: half a surrogate pair is no text") from None
        except (binascii.Error, ValueError) as error:
            raise RequestError(400, f"{name}: invalid base64: {error}") from None
    return found


def _check_pictures(columns: Mapping[str, np.ndarray], max_pixels: int) -> None:
    for name, values in columns.items():
        for value in values.ravel() if values.dtype == object else ():
            if (size := pixels(value)) > max_pixels:
                raise RequestError(
                    400, f"{name}: a picture may have {max_pixels:,} pixels; received {size:,}"
                )


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _form(tensor: Tensor) -> str:
    words = {"DT_STRING": "text", "DT_BOOL": "true or false"}
    item = words.get(tensor.dtype, "whole numbers" if "INT" in tensor.dtype else "numbers")
    depth = len(tensor.shape or ())
    return f"{item} in lists nested {depth} deep" if depth else item


def _not(value: Any) -> str:
    """What was received instead, in a few words: it may be as large as a body can be."""
    if isinstance(value, dict):
        what = "an object with " + ", ".join(repr(key[:30]) for key in list(value)[:5])
    elif isinstance(value, list):
        what = f"a list of {len(value)}"
    else:
        text = json.dumps(value)
        what = text if len(text) <= 60 else f"{text[:57]}..."
    return f"; received {what}"


def answer_json(outputs: Mapping[str, np.ndarray], *, by_row: bool) -> bytes:
    """The response's body. One output goes without its name. Raises RequestError (400).

    By row all outputs must have as many rows.
    """
    plain = {name: _plain(name, values) for name, values in outputs.items()}
    if not by_row:
        content = plain if len(plain) > 1 else next(iter(plain.values()))
        return _dumped({"outputs": content})
    if len({len(v) if isinstance(v, list) else None for v in plain.values()}) > 1:
        raise RequestError(
            400, 'the outputs differ in their rows: ask with "inputs", not "instances"'
        )
    if len(plain) == 1:
        return _dumped({"predictions": next(iter(plain.values()))})
    rows = zip(*plain.values(), strict=True)
    return _dumped({"predictions": [dict(zip(plain, row, strict=True)) for row in rows]})


def _plain(name: str, values: np.ndarray) -> Any:
    """As nested lists. Bytes are text, unless the output's name or the bytes say otherwise."""
    if values.dtype != object:
        return values.tolist()
    flat = np.empty(values.size, object)
    for index, value in enumerate(values.ravel()):
        flat[index] = _text(value, binary=name.endswith("_bytes"))
    return flat.reshape(values.shape).tolist()


def _text(value: bytes, *, binary: bool) -> str | dict[str, str]:
    if not binary:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(value).decode("ascii")}


def _dumped(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
