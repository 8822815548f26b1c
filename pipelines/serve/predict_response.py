"""The outputs of a signature -> a response's body in TensorFlow Serving's JSON."""

from __future__ import annotations

import base64
import json

import numpy as np

from pipelines.serve.errors import RequestError
from pipelines.serve.predict_request import Columns


def response_body(outputs: Columns, *, by_row: bool) -> bytes:
    """{"predictions": rows}, or {"outputs": columns}. A single output has no name in it.

    Rows are possible only if all outputs have the same number of them. Raises RequestError (400).
    """
    columns = {name: _to_json(name, values) for name, values in outputs.items()}
    if not by_row:
        content = columns if len(columns) > 1 else next(iter(columns.values()))
        return _encode({"outputs": content})
    if len({len(v) if isinstance(v, list) else None for v in columns.values()}) > 1:
        raise RequestError(
            400, 'the outputs differ in their number of rows: send "inputs", not "instances"'
        )
    if len(columns) == 1:
        return _encode({"predictions": next(iter(columns.values()))})
    rows = zip(*columns.values(), strict=True)
    return _encode({"predictions": [dict(zip(columns, row, strict=True)) for row in rows]})


def _to_json(name: str, values: np.ndarray) -> object:
    """Nested lists. Bytes become text, unless the output's name or the bytes forbid it.

    NaN and infinity become null, since JSON has no numbers for them.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        some = values.astype(object)
        some[~np.isfinite(values)] = None
        return some.tolist()
    if values.dtype != object:
        return values.tolist()
    flat = np.empty(values.size, object)
    for index, value in enumerate(values.ravel()):
        flat[index] = _text_or_base64(value, binary=name.endswith("_bytes"))
    return flat.reshape(values.shape).tolist()


def _text_or_base64(value: bytes, *, binary: bool) -> str | dict[str, str]:
    if not binary:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(value).decode("ascii")}


def _encode(content: object) -> bytes:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")
