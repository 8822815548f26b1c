"""Tracing graphs, and the signatures of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from pipelines.core.contracts import Batch, Spec
from pipelines.core.types import Nest, Tensors


def trace(function: Callable[..., Nest], *signature: Nest) -> Callable[..., Nest]:
    """The function as a graph that is traced immediately and called with arrays of the signature.

    What tf.function does at each call to find the graph that fits takes a millisecond.
    """
    graph = tf.function(function, input_signature=signature, autograph=False)
    concrete = graph.get_concrete_function()
    types = [spec.dtype for spec in tf.nest.flatten(signature)]

    def call(*values: Nest) -> Nest:
        tf.nest.assert_same_structure(signature, values)
        leaves = [
            tf.convert_to_tensor(value, dtype)
            for value, dtype in zip(tf.nest.flatten(values), types, strict=True)
        ]
        return concrete(*tf.nest.pack_sequence_as(signature, leaves))

    return call


def pad_ragged(fields: Mapping[str, tf.Tensor | tf.RaggedTensor]) -> dict[str, tf.Tensor]:
    """Ragged fields as (B, T, ...) padded with 0 on the right, with `<name>_length` (B,) int32."""
    columns: dict[str, tf.Tensor] = {}
    for name, value in fields.items():
        if isinstance(value, tf.RaggedTensor):
            columns[name] = value.to_tensor()
            columns[f"{name}_length"] = tf.cast(value.row_lengths(), tf.int32)
        else:
            columns[name] = value
    return columns


def batch_signature(spec: Spec, batch: Batch) -> Batch:
    """TensorSpecs of any batch: fields have their declared shapes, other axes are open."""

    def open_axes(value: Nest) -> tf.TensorSpec:
        array = np.asarray(value)
        # as_dtype knows no numpy text
        dtype = tf.string if array.dtype.kind in "SUO" else tf.as_dtype(array.dtype)
        return tf.TensorSpec([None] * array.ndim, dtype)

    inputs = {
        name: tf.TensorSpec([None, *spec.fields[name].shape], tf.as_dtype(np.asarray(value).dtype))
        if name in spec.fields
        else open_axes(value)
        for name, value in batch.inputs.items()
    }
    return Batch(inputs, tf.nest.map_structure(open_axes, batch.targets), open_axes(batch.weights))


def flatten_nest(prefix: str, nest: Nest) -> dict[str, tf.Tensor]:
    """The leaves of a nest by name, for a signature: prefix_0, prefix_1, ..."""
    return {f"{prefix}_{i}": leaf for i, leaf in enumerate(tf.nest.flatten(nest))}


def pack_nest(prefix: str, like: Nest, tensors: Tensors) -> Nest:
    """The inverse of `flatten_nest`: a nest with the structure of `like`."""
    leaves = [tensors[f"{prefix}_{i}"] for i in range(len(tf.nest.flatten(like)))]
    return tf.nest.pack_sequence_as(like, leaves)
