"""A request's body -> a PredictRequest: TensorFlow Serving's JSON, rows or columns.

https://www.tensorflow.org/tfx/serving/api_rest describes both forms. Rows are {"instances": [row,
...]}, columns are {"inputs": {name: values}}. A signature with one input needs no names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.export.client import LENGTH_SUFFIX, pad
from pipelines.serve.errors import RequestError
from pipelines.serve.image_limits import count_pixels
from pipelines.serve.input_parsing import (
    MAX_PADDED_VALUES,
    describe_received,
    is_base64,
    parse_rows,
    parse_sequences,
    parse_tensor,
)
from pipelines.serve.signatures import Signature

Columns = Mapping[str, np.ndarray]
"""Arrays by the name of the input or output."""


@dataclass(frozen=True)
class RequestLimits:
    """Most rows in a request, and most pixels in an image of it."""

    rows: int
    pixels: int


@dataclass(frozen=True, eq=False)
class PredictRequest:
    """A parsed request.

    columns  by input, (rows, ...).
    by_row   the request has "instances", so the response has "predictions".
    """

    signature: Signature
    columns: Columns
    rows: int
    by_row: bool = True

    @property
    def batch_key(self) -> Hashable:
        """Requests with equal keys can be one batch: all sizes but the rows and time are equal."""
        if not self.signature.batchable:
            return self
        sequences = self.signature.sequences
        shapes = (
            (name, values.shape[2 if name in sequences else 1 :])
            for name, values in self.columns.items()
        )
        return (self.signature.name, *shapes)


def merge_columns(requests: Sequence[PredictRequest]) -> Columns:
    """The rows of several requests with equal keys, one after the other, padded where needed."""
    if len(requests) == 1:
        return requests[0].columns
    columns = {}
    for name, values in requests[0].columns.items():
        parts = [request.columns[name] for request in requests]
        if name in requests[0].signature.sequences:
            rows = [row for part in parts for row in part]
            columns[name] = pad(rows, values.dtype, values.shape[2:])
        else:
            columns[name] = np.concatenate(parts)
    return columns


def fits_in_batch(requests: Sequence[PredictRequest]) -> bool:
    """Whether the sequences of these requests stay small when padded to the longest."""
    if not requests[0].signature.sequences:
        return True
    rows = sum(request.rows for request in requests)
    return all(
        rows * max(math.prod(request.columns[name].shape[1:]) for request in requests)
        <= MAX_PADDED_VALUES
        for name in requests[0].signature.sequences
    )


def parse_request(
    body: bytes, signatures: Mapping[str, Signature], limits: RequestLimits
) -> PredictRequest:
    """The request in a body. Raises RequestError (400) with what is wrong with it."""
    content = _parse_json(body)
    name = content.get("signature_name")
    if name in (None, ""):
        name = "serving_default"
    if not isinstance(name, str) or name not in signatures:
        names = ", ".join(signatures)
        raise RequestError(400, f"signature_name must be one of {names}{describe_received(name)}")
    if ("instances" in content) == ("inputs" in content):
        raise RequestError(400, 'the body must have either "instances" or "inputs"')
    signature = signatures[name]
    by_row = "instances" in content
    columns = _parse_columns(
        signature,
        _columns_of_rows(content["instances"], signature, limits.rows)
        if by_row
        else _named_columns(content["inputs"], signature),
    )
    rows = _count_rows(signature, columns, limits.rows)
    _check_images(columns, limits.pixels)
    return PredictRequest(signature, columns, rows, by_row)


def _parse_json(body: bytes) -> dict[str, object]:
    try:
        content = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the body must be UTF-8: byte {error.start} is invalid") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body must be JSON: {error}") from None
    if not isinstance(content, dict):
        raise RequestError(
            400,
            f'the body must be an object like {{"instances": [...]}}{describe_received(content)}',
        )
    return content


def _refuse_constant(name: str) -> None:
    """Python reads NaN and Infinity, which JSON hasn't."""
    raise ValueError(f"{name} is no number in JSON")


def _columns_of_rows(
    instances: object, signature: Signature, max_rows: int
) -> dict[str, list[object]]:
    """The rows' values by input. A length that a row doesn't have is None."""
    if not isinstance(instances, list):
        raise RequestError(400, f"instances must be a list{describe_received(instances)}")
    if not 1 <= len(instances) <= max_rows:
        raise RequestError(
            400, f"instances must have 1 to {max_rows} rows{describe_received(instances)}"
        )
    is_object = [isinstance(row, dict) and not is_base64(row) for row in instances]
    if not any(is_object):
        return {_only_input(signature, "instances"): instances}
    for index, row in enumerate(instances):
        if not is_object[index] or not _has_inputs(row, signature):
            names = ", ".join(signature.required)
            raise RequestError(
                400, f"instances[{index}] must have just the inputs {names}{describe_received(row)}"
            )
    return {name: [row.get(name) for row in instances] for name in signature.inputs}


def _named_columns(inputs: object, signature: Signature) -> Mapping[str, object]:
    if not isinstance(inputs, dict) or is_base64(inputs):
        return {_only_input(signature, "inputs"): inputs}
    if not _has_inputs(inputs, signature):
        names = ", ".join(signature.required)
        raise RequestError(400, f"inputs must have just {names}{describe_received(inputs)}")
    return inputs


def _has_inputs(values: Mapping[str, object], signature: Signature) -> bool:
    return signature.required.keys() <= values.keys() <= signature.inputs.keys()


def _only_input(signature: Signature, where: str) -> str:
    """The name of the one input whose values may come without a name."""
    if len(signature.required) != 1:
        names = ", ".join(signature.required)
        raise RequestError(400, f"{where}: values must be named: {names}")
    return next(iter(signature.required))


def _parse_columns(signature: Signature, values: Mapping[str, object]) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    for name, tensor in signature.required.items():
        if name in signature.sequences:
            length = f"{name}{LENGTH_SUFFIX}"
            columns[name], columns[length] = parse_sequences(
                name, values[name], values.get(length), tensor
            )
        elif tensor.has_batch_axis:
            columns[name] = parse_rows(name, values[name], tensor)
        else:
            columns[name] = parse_tensor(name, values[name], tensor)
    return columns


def _count_rows(signature: Signature, columns: Columns, max_rows: int) -> int:
    """The number of rows, which must be the same in all inputs with a batch axis."""
    counts = {
        len(values) for name, values in columns.items() if signature.inputs[name].has_batch_axis
    }
    if len(counts) > 1:
        raise RequestError(
            400, f"inputs: all must have the same number of rows; received {sorted(counts)}"
        )
    rows = counts.pop() if counts else 1
    if not 1 <= rows <= max_rows:
        raise RequestError(400, f"inputs must have 1 to {max_rows} rows; received {rows}")
    return rows


def _check_images(columns: Columns, max_pixels: int) -> None:
    for name, values in columns.items():
        for value in values.ravel() if values.dtype == object else ():
            if (pixels := count_pixels(value)) > max_pixels:
                raise RequestError(
                    400, f"{name}: an image may have {max_pixels:,} pixels; received {pixels:,}"
                )
