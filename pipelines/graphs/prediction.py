"""Graphs of a trained task: for whole splits, and from raw values to answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from pipelines.core.contracts import Batch, FieldSpec, Split
from pipelines.core.task import ExportedFunction, Trained
from pipelines.core.types import Example, Nest, Tensors
from pipelines.graphs.tracing import batch_signature, pad_ragged, trace

Graph = Callable[[Tensors], dict[str, tf.Tensor]]


class Predictor:
    """Predicts a Batch: predictions by name, and the task's measures of the targets.

    Traced once for all lengths, at the first batch.
    """

    def __init__(self, trained: Trained):
        self.trained = trained
        self.task, self.codec = trained.task, trained.codec
        self.raw = trained.task.raw_inputs(trained.decode)
        self._graph: Callable[..., dict[str, tf.Tensor]] | None = None

    def __call__(self, batch: Batch) -> dict[str, tf.Tensor]:
        if self._graph is None:
            self._graph = trace(self._predict, batch_signature(self.codec.spec, batch))
        return self._graph(batch)

    def _predict(self, batch: Batch) -> dict[str, tf.Tensor]:
        inputs = prediction_inputs(self.trained, batch.inputs)
        predicted = self.task.predict(self.trained, inputs)
        return {**predicted, **self.task.measure_targets(self.trained.model, batch)}


def gather_batch(trained: Trained, split: Split, rows: np.ndarray) -> Batch:
    """A batch of the rows, with the raw columns that predicting needs among its inputs."""
    task = trained.task
    batch = task.batch(split.gather(rows), trained.codec)
    names = task.raw_inputs(trained.decode)
    if names:
        batch.inputs.update(raw_columns(split.examples(rows.tolist()), names))
    return batch


def raw_columns(examples: Sequence[Example], names: Sequence[str]) -> dict[str, np.ndarray]:
    """The raw columns `names`, each (B,)."""
    return {name: np.array([example[name] for example in examples]) for name in names}


def prediction_inputs(trained: Trained, inputs: Mapping[str, Nest]) -> dict[str, Nest]:
    """The inputs of a batch that are available when predicting: fields and raw columns."""
    columns, fields = trained.task.input_columns, trained.codec.fields
    names = {name for name, part in fields.items() if part.column in columns}
    names |= {f"{name}_length" for name in names} | set(columns)
    return {name: value for name, value in inputs.items() if name in names}


def field_specs(trained: Trained) -> dict[str, tf.TensorSpec]:
    """TensorSpecs of the fields of the input columns, as in a Batch."""
    columns = trained.task.input_columns
    fields = {
        name: part.field for name, part in trained.codec.fields.items() if part.column in columns
    }
    return dense_specs(fields)


def input_specs(trained: Trained) -> dict[str, tf.TensorSpec]:
    """TensorSpecs of the raw input columns, as a SavedModel takes them.

    Text, bytes and numbers are (B,). What has time, such as a list of words or a series, is
    (B, T, ...), right-padded, with its length (B,) under "<column>_length".
    """
    return dense_specs(trained.codec.raw_fields(trained.task.input_columns))


def dense_specs(fields: Mapping[str, FieldSpec]) -> dict[str, tf.TensorSpec]:
    """TensorSpecs of dense tensors (B, ...), with "<name>_length" for those with time."""
    specs: dict[str, tf.TensorSpec] = {}
    for name, field in fields.items():
        specs[name] = tf.TensorSpec([None, *field.shape], field.dtype, name=name)
        if field.is_sequence:
            length = f"{name}_length"
            specs[length] = tf.TensorSpec([None], tf.int32, name=length)
    return specs


def encode_inputs(trained: Trained, columns: Tensors) -> dict[str, tf.Tensor]:
    """Graph code: encodes raw input columns, as in `input_specs`, as padded fields."""
    raw = {
        name: tf.RaggedTensor.from_tensor(columns[name], columns[f"{name}_length"])
        if field.is_sequence
        else columns[name]
        for name, field in trained.codec.raw_fields(trained.task.input_columns).items()
    }
    return pad_ragged(trained.codec.encode(raw))


def predict_function(trained: Trained) -> ExportedFunction:
    """The function from the fields of the input columns to predictions."""

    def predict(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return trained.task.predict(trained, inputs)

    return ExportedFunction(predict, field_specs(trained), lambda batch: batch, predicts=True)


def answer_graph(trained: Trained) -> Graph:
    """The graph from raw input columns, as in `input_specs`, to answers for people."""
    task = trained.task

    def answer(columns: Tensors) -> dict[str, tf.Tensor]:
        inputs = encode_inputs(trained, columns)
        inputs |= {name: columns[name] for name in task.raw_inputs(trained.decode)}
        predictions = task.predict(trained, inputs, detail=True)
        return task.decode_predictions(predictions, trained.codec)

    return answer
