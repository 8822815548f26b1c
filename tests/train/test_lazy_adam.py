"""Lazy rows end where Adam moves them at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_learner import PLAIN, Squares

from models.embedding import VocabularySpec, build_embedding
from models.settings import EmbeddingSettings
from pipelines.core.contracts import Batch, Codec, FieldSpec, Spec
from pipelines.train.lazy_adam import LazyAdam, LazySettings
from pipelines.train.learner import Learner
from pipelines.train.optimizers import ADAM

EMBEDDING = EmbeddingSettings(
    width=3, scale=0.5, vectors=None, trainable=True, word_dropout=0.0, dropout=0.0
)


class Ids(Codec):
    """Examples that are two rows' numbers each."""

    @property
    def spec(self) -> Spec:
        return Spec(fields={"x": FieldSpec((2,), "int32")}, sizes={})


ROWS, WIDTH = 7, 3


@keras.saving.register_keras_serializable(package="tests")
class Vectors(keras.layers.Layer):
    """Vectors of two rows: looked up once, twice, in a branch, or also where nothing is learnt."""

    def __init__(self, how: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.how, self.embedding = how, build_embedding(EMBEDDING, VocabularySpec(ROWS), seed=1)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        def found(ids: tf.Tensor) -> tf.Tensor:
            return self.embedding(ids, tf.ones_like(ids, tf.bool))

        if self.how == "twice":
            return tf.concat([found(ids[:, :1]), found(ids[:, ::-1])[:, :1]], 1)
        if self.how == "in a branch":
            return tf.cond(tf.reduce_sum(ids) % 2 == 0, lambda: found(ids), lambda: 2 * found(ids))
        if self.how == "in a loop":
            first = tf.constant(0), tf.zeros([])
            _, unused = tf.while_loop(
                lambda k, _: k < 3,
                lambda k, total: (k + 1, total + tf.reduce_sum(found(ids + k)) * 0),
                first,
            )
            return found(ids) + tf.stop_gradient(unused)
        return found(ids)


def table(*, lazy: bool, total: int = 10, how: str = "once", **changes: Any) -> Learner:
    """Of a model that sums two rows of an embedding, and their numbers, by a kernel."""
    inputs = keras.Input((2,), dtype="int32", name="x")
    vectors = Vectors(how)(inputs)
    start = keras.initializers.RandomNormal(seed=2)
    dense = keras.layers.Dense(1, kernel_initializer=start, name="dense")
    outputs = dense(keras.layers.Flatten()(vectors))
    model = keras.Model({"x": inputs}, outputs)
    settings = replace(PLAIN, **{"optimizer": "adam", "learning_rate": 0.05, **changes})
    smallest = 1 if lazy else ROWS * WIDTH + 1
    made = Learner(
        Squares(),  # type: ignore[arg-type]
        model,
        Ids({}),
        settings,
        total,
        lazy_settings=LazySettings(smallest_matrix=smallest, window=8),
    )
    assert (made.weights.lazy_adam is not None) == lazy
    return made


def batch_of(ids: list[tuple[int, int]], target: list[float]) -> Batch:
    return Batch(
        {"x": np.asarray(ids, np.int32)},
        np.asarray(target, np.float32),
        np.ones(len(ids), np.float32),
    )


def random_batches(steps: int, seed: int = 0) -> list[Batch]:
    """The higher a row's number, the more rarely it is looked up."""
    random = np.random.default_rng(seed)
    chances = 0.35 ** np.arange(ROWS)
    return [
        batch_of(random.choice(ROWS, (3, 2), p=chances / chances.sum()), random.normal(size=3))
        for _ in range(steps)
    ]


def flushed_weights(made: Learner) -> list[np.ndarray]:
    made.weights.flush()
    averages = made.weights.ema_values() if made.settings.ema_decay else []
    return [np.asarray(value) for value in [*made.variables, *averages]]


def test_lazy_rows_end_where_adam_moves_them_at_once() -> None:
    random = np.random.default_rng(5)
    embedding = build_embedding(EMBEDDING, VocabularySpec(ROWS), seed=1)
    ours = LazyAdam([embedding], ADAM, ema=True, settings=LazySettings(window=16, chunk=3))
    w = np.asarray(embedding.matrix, np.float64)
    m, v, average = np.zeros_like(w), np.zeros_like(w), w.copy()
    for t in range(1, 61):
        ids = np.flatnonzero(random.random(ROWS) < 0.4 ** np.arange(ROWS))
        gradient = random.normal(size=(ROWS, WIDTH)) * 10.0 ** random.integers(-8, 3, (ROWS, 1))
        gradient[np.setdiff1d(np.arange(ROWS), ids)] = 0
        decay = min(0.95, t / (9 + t))
        rate = 0.1 * np.cos(t / 50) * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        with ours.recording_lookups():
            vectors = embedding(ids, np.ones(len(ids), bool))
        np.testing.assert_allclose(vectors, w[ids], rtol=1e-5, atol=1e-6)
        # Kingma & Ba 2015, the end of section 2.
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w = w - rate * m / (np.sqrt(v) + 1e-7)
        average = decay * average + (1 - decay) * w
        slices = tf.IndexedSlices(gradient[ids].astype(np.float32), tf.constant(ids, tf.int32))
        ours.update([slices], tf.constant(rate, tf.float32), tf.constant(decay, tf.float32))
        if t in (1, 2, 13, 29, 45, 60):  # at most 16 apart
            ours.flush()
            np.testing.assert_allclose(embedding.matrix, w, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(ours.ema_values()[0], average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.9, "schedule": "cosine", "warmup": 0.1, "clip_norm": 0.3},
        {"ema_decay": None, "optimizer": "adamw", "weight_decay": 0.1},
    ],
)
@pytest.mark.parametrize("how", ["once", "twice", "in a branch", "in a loop"])
def test_lazy_training_equals_training_of_all_rows(changes: dict[str, Any], how: str) -> None:
    lazy, dense = (table(lazy=one, total=20, how=how, **changes) for one in (True, False))
    for step, batch in enumerate(random_batches(20)):
        assert lazy.train_step([batch], step) == dense.train_step([batch], step)
        assert lazy.norm.numpy() == pytest.approx(dense.norm.numpy(), rel=1e-3)
    assert lazy.mean_loss() == pytest.approx(dense.mean_loss(), rel=1e-4)
    for one, other in zip(flushed_weights(lazy), flushed_weights(dense), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_a_rows_momentum_carries_it_on_while_nothing_looks_it_up() -> None:
    made = table(lazy=True, clip_norm=None)
    before = np.asarray(made.variables[0])[5]
    made.train_step([batch_of([(5, 5)], [9.0])], 0)
    first = np.asarray(made.variables[0])[5] - before
    # Adam's first step is the learning rate, whatever the gradient.
    np.testing.assert_allclose(np.abs(first), 0.05, rtol=1e-3)
    made.train_step([batch_of([(1, 2)], [9.0])], 1)
    np.testing.assert_array_equal(
        np.asarray(made.variables[0])[5], before + first
    )  # not flushed yet
    made.weights.flush()
    # m / sqrt(v), both with their bias: 0.9 * 0.1 / 0.19 by sqrt(0.999 * 0.001 / 0.001999).
    second = 0.9 * 0.1 / 0.19 / np.sqrt(0.999 * 0.001 / 0.001999)
    moved = np.asarray(made.variables[0])[5] - before
    np.testing.assert_allclose(moved, first * (1 + second), rtol=1e-3)


def test_flushing_changes_no_later_step() -> None:
    often, seldom = (table(lazy=True, ema_decay=0.8, total=20) for _ in range(2))
    for step, batch in enumerate(random_batches(20, seed=3)):
        often.train_step([batch], step)
        seldom.train_step([batch], step)
        often.weights.flush()
    for one, other in zip(flushed_weights(often), flushed_weights(seldom), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=5e-5)


def test_pending_updates_are_in_a_checkpoint() -> None:
    batches = random_batches(9, seed=4)
    straight = table(lazy=True, ema_decay=0.8)
    for step, batch in enumerate(batches):
        straight.train_step([batch], step)
    broken_off, resumed = (table(lazy=True, ema_decay=0.8) for _ in range(2))
    for step, batch in enumerate(batches[:5]):
        broken_off.train_step([batch], step)
    kept = broken_off.state_variables()
    for name, variables in resumed.state_variables().items():
        for variable, value in zip(variables, kept[name], strict=True):
            variable.assign(value)
    for step, batch in enumerate(batches[5:], start=5):
        resumed.train_step([batch], step)
    for one, other in zip(flushed_weights(straight), flushed_weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("average", [0.8, None])
def test_lazy_and_dense_training_resume_from_each_other(average: float | None) -> None:
    batches = random_batches(12, seed=6)
    straight = table(lazy=True, ema_decay=average)
    first = table(lazy=True, ema_decay=average)
    # With accumulation all rows are updated in each step.
    second = table(lazy=True, ema_decay=average, accumulation_steps=2)
    third = table(lazy=True, ema_decay=average)
    taking_turns = {0: first, 4: second, 8: third}
    now = first
    for step, batch in enumerate(batches):
        straight.train_step([batch], step)
        if step in (4, 8):
            kept, now = now.state_variables(), taking_turns[step]
            for name, variables in now.state_variables().items():
                for variable, value in zip(variables, kept[name], strict=True):
                    variable.assign(value)
            now.weights.after_restore()
        now.train_step([batch], step)
    for one, other in zip(flushed_weights(straight), flushed_weights(now), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=5e-5)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_rows_looked_up_in_accumulated_batches_are_those_of_one_batch(optimizer: str) -> None:
    whole = table(lazy=False, optimizer=optimizer)
    parts = table(lazy=False, optimizer=optimizer, accumulation_steps=2)
    for step, (ids, other) in enumerate([((0, 1), (1, 1)), ((2, 2), (0, 4)), ((1, 3), (2, 5))]):
        whole.train_step([batch_of([ids, other], [0, 0])], step)
        parts.train_step([batch_of([ids], [0]), batch_of([other], [0])], step)
    for one, two in zip(whole.variables, parts.variables, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(two), rtol=1e-6)
