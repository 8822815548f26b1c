"""Rows that wait for their updates end where Adam moves them at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_learner import PLAIN, Squares

from models.embedding import build_embedding
from models.settings import EmbeddingSettings
from pipelines.core.contracts import Batch, Codec, Field, Spec
from pipelines.train import lazy_adam as row_adam
from pipelines.train.optimizers import Adam
from pipelines.train.update import Learner

EMBEDDING = EmbeddingSettings(
    width=3, scale=0.5, vectors=None, trainable=True, word_dropout=0.0, dropout=0.0
)


class Ids(Codec):
    """Examples that are two rows' numbers each."""

    @property
    def spec(self) -> Spec:
        return Spec(fields={"x": Field((2,), "int32")}, sizes={})


ROWS, WIDTH = 7, 3


@keras.saving.register_keras_serializable(package="tests")
class Vectors(keras.layers.Layer):
    """Vectors of two rows: looked up once, twice, in a branch, or also where nothing is learnt."""

    def __init__(self, how: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.how, self.embedding = how, build_embedding(EMBEDDING, ROWS, seed=1)

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


def table(*, rows_pay: bool, total: int = 10, how: str = "once", **changes: Any) -> Learner:
    """Of a model that sums two rows of an embedding, and their numbers, by a kernel."""
    inputs = keras.Input((2,), dtype="int32", name="x")
    vectors = Vectors(how)(inputs)
    start = keras.initializers.RandomNormal(seed=2)
    dense = keras.layers.Dense(1, kernel_initializer=start, name="dense")
    outputs = dense(keras.layers.Flatten()(vectors))
    model = keras.Model({"x": inputs}, outputs)
    settings = replace(PLAIN, **{"optimizer": "adam", "learning_rate": 0.05, **changes})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_adam, "ROWS_PAY", 1 if rows_pay else ROWS * WIDTH + 1)
        patch.setattr(row_adam, "WINDOW", 8)
        made = Learner(Squares(), model, Ids({}), settings, total)  # type: ignore[arg-type]
    assert (made.weights.rows is not None) == rows_pay
    return made


def asked(ids: list[tuple[int, int]], target: list[float]) -> Batch:
    return Batch(
        {"x": np.asarray(ids, np.int32)},
        np.asarray(target, np.float32),
        np.ones(len(ids), np.float32),
    )


def drawn(updates: int, seed: int = 0) -> list[Batch]:
    """The higher a row's number, the rarer it is asked for."""
    random = np.random.default_rng(seed)
    chances = 0.35 ** np.arange(ROWS)
    return [
        asked(random.choice(ROWS, (3, 2), p=chances / chances.sum()), random.normal(size=3))
        for _ in range(updates)
    ]


def settled(made: Learner) -> list[np.ndarray]:
    made.weights.settle()
    averages = made.weights.averaged() if made.settings.ema_decay else []
    return [np.asarray(value) for value in [*made.variables, *averages]]


def test_rows_that_wait_for_their_updates_end_where_adam_moves_them_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_adam, "WINDOW", 16)
    monkeypatch.setattr(row_adam, "CHUNK", 3)
    random = np.random.default_rng(5)
    embedding = build_embedding(EMBEDDING, ROWS, seed=1)
    ours = row_adam.RowAdam([embedding], Adam(0.1), averaged=True)
    w = np.asarray(embedding.matrix, np.float64)
    m, v, average = np.zeros_like(w), np.zeros_like(w), w.copy()
    for t in range(1, 61):
        ids = np.flatnonzero(random.random(ROWS) < 0.4 ** np.arange(ROWS))
        gradient = random.normal(size=(ROWS, WIDTH)) * 10.0 ** random.integers(-8, 3, (ROWS, 1))
        gradient[np.setdiff1d(np.arange(ROWS), ids)] = 0
        decay = min(0.95, t / (9 + t))
        rate = 0.1 * np.cos(t / 50) * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        with ours.looked_up():
            vectors = embedding(ids, np.ones(len(ids), bool))
        np.testing.assert_allclose(vectors, w[ids], rtol=1e-5, atol=1e-6)
        # Kingma & Ba 2015, the end of section 2.
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w = w - rate * m / (np.sqrt(v) + 1e-7)
        average = decay * average + (1 - decay) * w
        slices = tf.IndexedSlices(gradient[ids].astype(np.float32), tf.constant(ids, tf.int32))
        ours.update([slices], tf.constant(rate, tf.float32), tf.constant(decay, tf.float32))
        if t in (1, 2, 13, 29, 45, 60):  # at most 16 apart
            ours.settle()
            np.testing.assert_allclose(embedding.matrix, w, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(ours.averages()[0], average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.9, "schedule": "cosine", "warmup": 0.1, "clip_norm": 0.3},
        {"ema_decay": None, "optimizer": "adamw", "weight_decay": 0.1},
    ],
)
@pytest.mark.parametrize("how", ["once", "twice", "in a branch", "in a loop"])
def test_training_by_rows_is_training_of_the_whole(changes: dict[str, Any], how: str) -> None:
    waiting, whole = (table(rows_pay=pay, total=20, how=how, **changes) for pay in (True, False))
    for step, batch in enumerate(drawn(20)):
        assert waiting.update([batch], step) == whole.update([batch], step)
        assert waiting.norm.numpy() == pytest.approx(whole.norm.numpy(), rel=1e-3)
    assert waiting.mean_loss() == pytest.approx(whole.mean_loss(), rel=1e-4)
    for one, other in zip(settled(waiting), settled(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_a_row_goes_on_by_its_momentum_while_nothing_asks_for_it() -> None:
    made = table(rows_pay=True, clip_norm=None)
    before = np.asarray(made.variables[0])[5]
    made.update([asked([(5, 5)], [9.0])], 0)
    first = np.asarray(made.variables[0])[5] - before
    # Adam's first step is the learning rate, whatever the gradient.
    np.testing.assert_allclose(np.abs(first), 0.05, rtol=1e-3)
    made.update([asked([(1, 2)], [9.0])], 1)
    np.testing.assert_array_equal(np.asarray(made.variables[0])[5], before + first)  # it waits
    made.weights.settle()
    # m / sqrt(v), both with their bias: 0.9 * 0.1 / 0.19 by sqrt(0.999 * 0.001 / 0.001999).
    second = 0.9 * 0.1 / 0.19 / np.sqrt(0.999 * 0.001 / 0.001999)
    moved = np.asarray(made.variables[0])[5] - before
    np.testing.assert_allclose(moved, first * (1 + second), rtol=1e-3)


def test_settling_changes_nothing_of_what_comes_after() -> None:
    often, seldom = (table(rows_pay=True, ema_decay=0.8, total=20) for _ in range(2))
    for step, batch in enumerate(drawn(20, seed=3)):
        often.update([batch], step)
        seldom.update([batch], step)
        often.weights.settle()
    for one, other in zip(settled(often), settled(seldom), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=5e-5)


def test_what_rows_wait_for_is_in_a_checkpoint() -> None:
    batches = drawn(9, seed=4)
    straight = table(rows_pay=True, ema_decay=0.8)
    for step, batch in enumerate(batches):
        straight.update([batch], step)
    broken_off, resumed = (table(rows_pay=True, ema_decay=0.8) for _ in range(2))
    for step, batch in enumerate(batches[:5]):
        broken_off.update([batch], step)
    kept = broken_off.state_variables()
    for name, variables in resumed.state_variables().items():
        for variable, value in zip(variables, kept[name], strict=True):
            variable.assign(value)
    for step, batch in enumerate(batches[5:], start=5):
        resumed.update([batch], step)
    for one, other in zip(settled(straight), settled(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("average", [0.8, None])
def test_what_waits_and_what_does_not_go_on_from_each_other(average: float | None) -> None:
    batches = drawn(12, seed=6)
    straight = table(rows_pay=True, ema_decay=average)
    first = table(rows_pay=True, ema_decay=average)
    second = table(
        rows_pay=True, ema_decay=average, accumulation_steps=2
    )  # moves all rows in each update
    third = table(rows_pay=True, ema_decay=average)
    taking_turns = {0: first, 4: second, 8: third}
    now = first
    for step, batch in enumerate(batches):
        straight.update([batch], step)
        if step in (4, 8):
            kept, now = now.state_variables(), taking_turns[step]
            for name, variables in now.state_variables().items():
                for variable, value in zip(variables, kept[name], strict=True):
                    variable.assign(value)
            now.weights.restored()
        now.update([batch], step)
    for one, other in zip(settled(straight), settled(now), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=5e-5)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_rows_asked_for_in_accumulated_batches_are_those_of_one_batch(optimizer: str) -> None:
    whole = table(rows_pay=False, optimizer=optimizer)
    parts = table(rows_pay=False, optimizer=optimizer, accumulation_steps=2)
    for step, (ids, other) in enumerate([((0, 1), (1, 1)), ((2, 2), (0, 4)), ((1, 3), (2, 5))]):
        whole.update([asked([ids, other], [0, 0])], step)
        parts.update([asked([ids], [0]), asked([other], [0])], step)
    for one, two in zip(whole.variables, parts.variables, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(two), rtol=1e-6)
