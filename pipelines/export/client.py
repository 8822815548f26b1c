"""Predicts with a SavedModel in a process of its own, with TensorFlow and nothing of this project.

    python pipelines/export/client.py saved_model < rows.jsonl > predictions.jsonl

A row is a JSON object with the signature's inputs by name: text, a number, a list of either, or a
series as a list of lists, such as {"text": "I liked it."} or {"tokens": ["I", "liked", "it"]}.
Bytes that are no text are {"b64": "..."}, as in TensorFlow Serving.

The module is also all that another program needs to use an export. So it is whole by itself:
prediction and serving import `load` and `pad` from here, not the other way round. TensorFlow is
imported with the model only, because the server's process never imports it.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BATCH_ROWS = 64

OPERATORS = ("tensorflow_text",)
"""Modules with operators that an export may need. Those that it names itself are only believed if
they are here: a file that comes with a model must not choose what code runs.
"""

LENGTH_SUFFIX = "_length"
"""An input x (B, T, ...) with an input x_length (B,) holds padded sequences and their lengths."""


def main() -> None:
    model = load(sys.argv[1])
    predict = model.signatures["serving_default"]
    specs = predict.structured_input_signature[1]
    rows = [json.loads(line, object_hook=decode_base64) for line in sys.stdin]
    for start in range(0, len(rows), BATCH_ROWS):
        batch = rows[start : start + BATCH_ROWS]
        outputs = predict(**as_tensors(model_inputs(batch, specs)))
        columns = {name: value.numpy() for name, value in outputs.items()}
        for index in range(len(batch)):
            row = {name: to_plain(values[index]) for name, values in columns.items()}
            print(json.dumps(row, ensure_ascii=False))


def load(directory: str) -> Any:
    """The SavedModel, after the modules with the operators that it uses (SentencePiece's).

    Keep the model: its signatures alone don't keep it alive. ValueError where it names a module
    that isn't one of OPERATORS.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    with open(f"{directory}/assets.extra/imports.txt", encoding="utf-8") as modules:
        named = modules.read().split()
    for module in named:
        if module not in OPERATORS:
            raise ValueError(
                f"assets.extra/imports.txt must name none but {', '.join(OPERATORS)}; it names "
                f"{module[:80]!r}"
            )
        importlib.import_module(module)
    return tf.saved_model.load(directory)


def decode_base64(value: dict[str, Any]) -> Any:
    """The bytes that a JSON object {"b64": ...} stands for; other objects unchanged."""
    return base64.b64decode(value["b64"]) if value.keys() == {"b64"} else value


def model_inputs(
    rows: Sequence[Mapping[str, Any]], specs: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The inputs of a signature for some rows, as arrays with the rows on the first axis.

    specs  each input's tf.TensorSpec, by name. Sequences are padded, and their lengths filled in.
    Raises ValueError or TypeError where a value doesn't fit the input.
    """
    sequences = sequence_names({name: spec.shape for name, spec in specs.items()})
    lengths = {f"{name}{LENGTH_SUFFIX}" for name in sequences}
    inputs = {}
    for name in specs.keys() - lengths:
        values = [row[name] for row in rows]
        dtype = np.dtype(specs[name].dtype.as_numpy_dtype)
        if name in sequences:
            arrays = [to_array(value, dtype) for value in values]
            inputs[name] = pad(arrays, dtype, specs[name].shape[2:])
            inputs[f"{name}{LENGTH_SUFFIX}"] = np.array([len(a) for a in arrays], np.int32)
        else:
            inputs[name] = to_array(values, dtype)
    return inputs


def sequence_names(shapes: Mapping[str, Sequence[int | None] | None]) -> frozenset[str]:
    """The inputs whose second axis is time, of a signature's inputs with their shapes."""
    return frozenset(
        name
        for name, shape in shapes.items()
        if f"{name}{LENGTH_SUFFIX}" in shapes
        and shape is not None
        and len(shape) > 1
        and shape[1] is None
    )


def to_array(values: Any, dtype: np.dtype) -> np.ndarray:
    """Nested lists as an array of the type. Raises ValueError or TypeError if they don't fit."""
    array = np.asarray(values, object if dtype.kind == "O" else None)
    if array.size and dtype.kind != "O" and not np.can_cast(array.dtype, dtype, "same_kind"):
        raise TypeError(f"values must be of type {dtype.name}; received {array.dtype.name}")
    converted = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(converted, array):
        raise ValueError(f"a number is out of the range of {dtype.name}")
    return converted


def pad(
    sequences: Sequence[np.ndarray], dtype: np.dtype, step_shape: Sequence[int | None] = ()
) -> np.ndarray:
    """Sequences (T, *step_shape) of any lengths T as one array (N, longest T, *step_shape).

    Shorter ones are filled up on the right with 0, or with empty text. The longest T is at least 1:
    cuDNN's kernels fail on sequences without a step. A size of None is that of the sequences.
    """
    nonempty = [sequence for sequence in sequences if len(sequence)]
    if None in step_shape:
        step_shape = nonempty[0].shape[1:] if nonempty else [size or 1 for size in step_shape]
    longest = max([1, *map(len, nonempty)])
    padding = b"" if dtype.kind == "O" else 0
    padded = np.full((len(sequences), longest, *step_shape), padding, dtype)
    for row, sequence in zip(padded, sequences, strict=True):
        if len(sequence):
            row[: len(sequence)] = sequence
    return padded


def as_tensors(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(values) for name, values in columns.items()}


def to_plain(value: object) -> object:
    """The value as JSON can hold it: bytes as text, arrays as lists."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    plain = value.tolist() if hasattr(value, "tolist") else value
    return [to_plain(item) for item in plain] if isinstance(plain, list) else plain


if __name__ == "__main__":
    main()
