"""The inputs and outputs of a SavedModel's signatures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipelines.core.types import JsonObject
from pipelines.export.client import LENGTH_SUFFIX, sequence_names

NUMPY_TYPES: dict[str, type[np.generic]] = {
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
    "DT_STRING": np.object_,
}
"""The types that JSON can hold, by their names in TensorFlow's protocol buffers."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or an output of a signature.

    shape  sizes, None for any size; None as a whole if even the number of axes is open.
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def has_batch_axis(self) -> bool:
        """Whether the first axis has one entry a row."""
        return bool(self.shape) and self.shape is not None and self.shape[0] is None


@dataclass(frozen=True)
class Signature:
    """One function of a SavedModel, with its inputs and outputs by name."""

    name: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]

    @cached_property
    def sequences(self) -> frozenset[str]:
        """Inputs (B, T, ...) with a companion x_length (B,): rows of different lengths, padded."""
        return sequence_names({name: tensor.shape for name, tensor in self.inputs.items()})

    @cached_property
    def required(self) -> dict[str, TensorInfo]:
        """The inputs that a client must send: all but the lengths of sequences."""
        lengths = {f"{name}{LENGTH_SUFFIX}" for name in self.sequences}
        return {name: tensor for name, tensor in self.inputs.items() if name not in lengths}

    @cached_property
    def batchable(self) -> bool:
        """Whether rows of several requests can be one batch."""
        tensors = (*self.inputs.values(), *self.outputs.values())
        return all(tensor.has_batch_axis for tensor in tensors)


def read_signatures(definitions: JsonObject) -> dict[str, Signature]:
    """Signatures from SignatureDefs as JSON, without those that only TensorFlow itself calls."""
    return {
        name: Signature(
            name, _read_tensors(definition["inputs"]), _read_tensors(definition["outputs"])
        )
        for name, definition in definitions.items()
        if definition["method_name"] == "tensorflow/serving/predict"
    }


def _read_tensors(infos: JsonObject) -> dict[str, TensorInfo]:
    tensors = {}
    for name, info in infos.items():
        shape = info["tensor_shape"]
        sizes = tuple(None if int(d["size"]) < 0 else int(d["size"]) for d in shape["dim"])
        tensors[name] = TensorInfo(info["dtype"], None if shape["unknown_rank"] else sizes)
    return tensors
