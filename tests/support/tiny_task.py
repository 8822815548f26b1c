"""A task on examples that fit into one batch, without a run, to be learnt by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from hydra import compose, initialize_config_dir

from pipelines.config.restore import to_plain_values
from pipelines.config.schema import Config, parse
from pipelines.core.contracts import Batch, Codec
from pipelines.core.paths import ROOT
from pipelines.core.task import Trained
from pipelines.graphs.prediction import Predictor
from pipelines.graphs.tracing import pad_ragged
from pipelines.train.learner import Learner


def configure(*overrides: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse(to_plain_values(compose("config", list(overrides))))


class TinyTask:
    """A task with the codec that it fits on raw columns, an untrained model, and one batch."""

    def __init__(self, raw: Mapping[str, Sequence[Any]], *overrides: str):
        self.config = configure(*overrides)
        self.task, self.raw = self.config.task, raw
        self.codec = Codec(self.task.codec())
        for field in self.codec.fields.values():
            field.fit([self.raw[column] for column in field.learns_from])
        tensors = {
            name: tf.ragged.constant(values, ragged_rank=1)
            if isinstance(values[0], list)
            else tf.constant(values)
            for name, values in self.raw.items()
        }
        self.columns = {k: v.numpy() for k, v in pad_ragged(self.codec.encode(tensors)).items()}
        keras.utils.set_random_seed(1)
        self.model = self.task.build(self.config.model, self.codec, 1)
        self.batch = self.task.batch(self.columns, self.codec)

    def rows(self, *rows: int) -> dict[str, np.ndarray]:
        return {name: value[list(rows)] for name, value in self.columns.items()}

    def predict(self, columns: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        predict = Predictor(Trained(self.task, self.model, self.codec, self.config.decode))
        batch = self.task.batch(columns or self.columns, self.codec)
        return {name: value.numpy() for name, value in predict(batch).items()}

    def losses(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """Of each example (N,), summed over its tokens."""
        batch = self.task.batch(columns, self.codec)
        outputs = self.task.outputs(self.model, batch.inputs, tf.constant(0))
        losses = self.task.losses(outputs, tf.constant(batch.targets))
        return tf.reduce_sum(losses * batch.weights, 1).numpy()

    def learn_by_heart(self, steps: int, batch_rows: int | None = None) -> float:
        """Trains on all examples again and again; the mean loss of the last pass over them.

        batch_rows  examples of a batch, drawn anew in each pass; None for all.
        Every trainable variable must change in the first step.
        """
        learner = Learner(self.task, self.model, self.codec, self.config.train, steps)
        before = [variable.numpy() for variable in self.model.trainable_variables]
        batches: list[Batch] = []
        rng, count = np.random.default_rng(1), len(next(iter(self.columns.values())))
        for step in range(steps):
            if not batches:
                learner.reset()
                batches = self._batches(rng.permutation(count), batch_rows or count)
            learner.train_step([batches.pop()], step)
            if step == 0:
                assert np.isfinite(learner.mean_loss())
                for variable, value in zip(self.model.trainable_variables, before, strict=True):
                    assert np.any(variable.numpy() != value), variable.path
        return learner.mean_loss()

    def _batches(self, order: np.ndarray, rows: int) -> list[Batch]:
        if rows == len(order):
            return [self.batch]
        parts = [order[start : start + rows] for start in range(0, len(order), rows)]
        return [self.task.batch(self.rows(*part), self.codec) for part in parts]
