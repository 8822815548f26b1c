"""Graphs made of a task, a model and a codec: for whole splits, and from raw values to answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.settings import SearchSettings
from pipelines.contracts import Batch, Codec, Spec
from pipelines.tasks import Task

Graph = Callable[[Mapping[str, Any]], dict[str, tf.Tensor]]


class Predictor:
    """From a Batch to predictions by name, and to what the task measures by the targets.

    Traced once for all lengths, at the first batch.
    """

    def __init__(self, task: Task, model: keras.Model, codec: Codec, decode: SearchSettings):
        self.task, self.model, self.codec, self.decode = task, model, codec, decode
        self.raw = task.raw(decode)
        self._graph: Any = None

    def __call__(self, batch: Batch) -> dict[str, tf.Tensor]:
        if self._graph is None:
            signature = batch_signature(self.codec.spec, batch)
            self._graph = traced(self._predict, signature)
        return self._graph(batch)

    def _predict(self, batch: Batch) -> dict[str, tf.Tensor]:
        inputs = given_inputs(self.task, self.codec, batch.inputs)
        predicted = self.task.predict(self.model, self.codec, inputs, self.decode)
        return {**predicted, **self.task.measure(self.model, batch)}


def traced(function: Callable[..., Any], *signature: Any) -> Callable[..., Any]:
    """The function as a graph, traced at once; it is called with arrays in the signature's form.

    What tf.function does at each call to find the graph that fits takes a millisecond.
    """
    graph = tf.function(function, input_signature=signature, autograph=False)
    concrete = graph.get_concrete_function()
    types = [spec.dtype for spec in tf.nest.flatten(signature)]

    def call(*values: Any) -> Any:
        tf.nest.assert_same_structure(signature, values)
        leaves = [
            tf.convert_to_tensor(value, dtype)
            for value, dtype in zip(tf.nest.flatten(values), types, strict=True)
        ]
        return concrete(*tf.nest.pack_sequence_as(signature, leaves))

    return call


def given_inputs(task: Task, codec: Codec, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a batch's inputs that are there when predicting, fields and raw columns."""
    names = {name for name, part in codec.fields.items() if part.column in task.given}
    names |= {f"{name}_length" for name in names} | set(task.given)
    return {name: value for name, value in inputs.items() if name in names}


def given_specs(task: Task, codec: Codec) -> dict[str, tf.TensorSpec]:
    """Of the fields that are made of the columns in `given`, as `padded` gives them."""
    specs: dict[str, tf.TensorSpec] = {}
    for name, part in codec.fields.items():
        if part.column in task.given:
            specs[name] = tf.TensorSpec([None, *part.field.shape], part.field.dtype)
            if part.field.is_sequence:
                specs[f"{name}_length"] = tf.TensorSpec([None], tf.int32)
    return specs


def answerer(task: Task, model: keras.Model, codec: Codec, decode: SearchSettings) -> Graph:
    """From raw columns (B,) by name, those of task.given, to what a person reads."""

    def answer(columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs = padded(codec.encode(columns))
        inputs |= {name: columns[name] for name in task.raw(decode)}
        return task.answers(task.predict(model, codec, inputs, decode, detail=True), codec)

    return answer


def padded(fields: Mapping[str, tf.Tensor | tf.RaggedTensor]) -> dict[str, tf.Tensor]:
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
    """Shapes of all batches: as the fields declare theirs, and all axes open for the rest."""

    def open_axes(value: Any) -> tf.TensorSpec:
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


def named(prefix: str, nest: Any) -> dict[str, tf.Tensor]:
    """Leaves by name, as a signature has them: prefix_0, prefix_1, ..."""
    return {f"{prefix}_{i}": leaf for i, leaf in enumerate(tf.nest.flatten(nest))}


def nested(prefix: str, like: Any, tensors: Mapping[str, tf.Tensor]) -> Any:
    """What `named` took apart, in the form of `like`."""
    leaves = [tensors[f"{prefix}_{i}"] for i in range(len(tf.nest.flatten(like)))]
    return tf.nest.pack_sequence_as(like, leaves)
