"""Graphs made of a task, a model and a codec: for whole splits, and from raw values to answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.settings import SearchSettings
from pipelines.core.contracts import Batch, Codec, Example
from pipelines.core.task import Task
from pipelines.graphs.tracing import batch_signature, padded, traced

Graph = Callable[[Mapping[str, Any]], dict[str, tf.Tensor]]


class Predictor:
    """From a Batch to predictions by name, and to what the task measures by the targets.

    Traced once for all lengths, at the first batch.
    """

    def __init__(self, task: Task, model: keras.Model, codec: Codec, decode: SearchSettings):
        self.task, self.model, self.codec, self.decode = task, model, codec, decode
        self.raw = task.raw_inputs(decode)
        self._graph: Any = None

    def __call__(self, batch: Batch) -> dict[str, tf.Tensor]:
        if self._graph is None:
            signature = batch_signature(self.codec.spec, batch)
            self._graph = traced(self._predict, signature)
        return self._graph(batch)

    def _predict(self, batch: Batch) -> dict[str, tf.Tensor]:
        inputs = given_inputs(self.task, self.codec, batch.inputs)
        predicted = self.task.predict(self.model, self.codec, inputs, self.decode)
        return {**predicted, **self.task.measure_targets(self.model, batch)}


def given_inputs(task: Task, codec: Codec, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a batch's inputs that are there when predicting, fields and raw columns."""
    names = {name for name, part in codec.fields.items() if part.column in task.input_columns}
    names |= {f"{name}_length" for name in names} | set(task.input_columns)
    return {name: value for name, value in inputs.items() if name in names}


def given_specs(task: Task, codec: Codec) -> dict[str, tf.TensorSpec]:
    """Of the fields that are made of the columns in `given`, as `padded` gives them."""
    specs: dict[str, tf.TensorSpec] = {}
    for name, part in codec.fields.items():
        if part.column in task.input_columns:
            specs[name] = tf.TensorSpec([None, *part.field.shape], part.field.dtype)
            if part.field.is_sequence:
                specs[f"{name}_length"] = tf.TensorSpec([None], tf.int32)
    return specs


def answerer(task: Task, model: keras.Model, codec: Codec, decode: SearchSettings) -> Graph:
    """From raw columns (B,) by name, those of task.input_columns, to what a person reads."""

    def answer(columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs = padded(codec.encode(columns))
        inputs |= {name: columns[name] for name in task.raw_inputs(decode)}
        return task.decode_predictions(
            task.predict(model, codec, inputs, decode, detail=True), codec
        )

    return answer


def raw_columns(examples: Sequence[Example], names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: np.asarray([one[name] for one in examples], object) for name in names}
