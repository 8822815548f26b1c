"""Graphs made of a task, a model and a codec: for whole splits, and from raw values to answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from pipelines.contracts import Codec, Task
from pipelines.settings import DecodeSettings

Graph = Callable[[Mapping[str, Any]], dict[str, tf.Tensor]]


def predictor(task: Task, model: keras.Model, decode: DecodeSettings) -> Graph:
    """From encoded inputs (B, ...) by name to predictions by name; traced once for all lengths."""
    signature = {
        tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype)
        for tensor in tf.nest.flatten(model.inputs)
    }

    @tf.function(input_signature=[signature])
    def predict(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return task.predict(model, inputs, decode)

    return predict


def answerer(task: Task, model: keras.Model, codec: Codec, decode: DecodeSettings) -> Graph:
    """From raw columns (B,) by name, those of task.given, to what a person reads."""

    def answer(columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs = padded(codec.encode(columns))
        return task.answers(task.predict(model, inputs, decode), codec)

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
