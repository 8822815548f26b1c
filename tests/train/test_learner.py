"""One training step: schedule, clipping, accumulation and averaging, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_learner import PLAIN, Squares

from pipelines.core.contracts import Batch, Codec, FieldSpec, Spec
from pipelines.train.learner import Learner, ema_weights
from pipelines.train.optimizers import make_optimizer
from pipelines.train.schedules import learning_rate


class Numbers(Codec):
    """Examples that are a number each."""

    @property
    def spec(self) -> Spec:
        return Spec(fields={"x": FieldSpec((1,), "float32")}, sizes={})


def learner(total: int = 10, **changes: Any) -> Learner:
    inputs = keras.Input((1,), name="x")
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="dense")(inputs)
    model = keras.Model({"x": inputs}, outputs)
    return Learner(Squares(), model, Numbers({}), replace(PLAIN, **changes), total)  # type: ignore[arg-type]


def batch(x: list[float], target: list[float], weights: list[float]) -> Batch:
    as_array = np.float32
    return Batch(
        {"x": np.asarray(x, as_array)[:, None]},
        np.asarray(target, as_array),
        np.asarray(weights, as_array),
    )


def weight(made: Learner) -> float:
    return float(np.asarray(made.variables[0]).item())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", 0.1), ("linear", 0.055), ("cosine", 0.055), ("exponential", 0.1 * 0.1**0.5)],
)
def test_half_way_between_warmup_and_end_the_rate_is_half_way_down(
    schedule: str, expected: float
) -> None:
    settings = replace(PLAIN, schedule=schedule, warmup=0.2)
    assert learning_rate(60, 100, settings) == pytest.approx(expected)
    assert learning_rate(100, 100, settings) == pytest.approx(
        0.1 if schedule == "constant" else 0.01
    )


def test_warmup_rises_linearly_and_counts_steps_from_one() -> None:
    settings = replace(PLAIN, warmup=4.0)
    assert [learning_rate(step, 100, settings) for step in range(5)] == pytest.approx(
        [0.02, 0.04, 0.06, 0.08, 0.1]
    )


def test_a_training_step_is_the_weighted_mean_gradient() -> None:
    made = learner()
    # Gradients are x (w x - t): 1 (1 - 0) = 1 counted twice, 2 (2 - 5) = -6 counted once.
    made.train_step([batch([1, 2, 9], [0, 5, 0], [2, 1, 0])], 0)
    assert weight(made) == pytest.approx(1 - 0.1 * (2 * 1 - 6) / 3)
    assert made.mean_loss() == pytest.approx((2 * 0.5 + 4.5) / 3)


def test_the_norm_is_measured_before_clipping() -> None:
    made = learner(clip_norm=0.5)
    made.train_step([batch([2], [5], [1])], 0)
    assert made.norm.numpy() == pytest.approx(6)
    assert weight(made) == pytest.approx(1 + 0.1 * 0.5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_accumulated_batches_equal_one_large_batch(optimizer: str) -> None:
    whole, parts = learner(optimizer=optimizer), learner(optimizer=optimizer, accumulation_steps=2)
    for step in range(3):
        whole.train_step([batch([1, 2, 3], [0, 5, 1], [1, 0.5, 2])], step)
        parts.train_step([batch([1], [0], [1]), batch([2, 3], [5, 1], [0.5, 2])], step)
    assert weight(whole) == pytest.approx(weight(parts), rel=1e-6)
    assert whole.mean_loss() == pytest.approx(parts.mean_loss(), rel=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_fused_update_equals_keras(name: str) -> None:
    keras_class = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[name]
    theirs = keras_class(0.01, **({"weight_decay": 0.1} if name == "adamw" else {}))
    start = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")
    a, b = keras.Variable(start, name="kernel"), keras.Variable(start, name="kernel")
    chosen = replace(PLAIN, optimizer=name, learning_rate=0.01, weight_decay=0.1)
    ours = make_optimizer(chosen, [b])
    for scale in (1.0, -2.0, 0.5):
        theirs.apply([tf.constant(scale * start)], [a])
        ours.apply([tf.constant(scale * start)], [b])
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5)
    assert not np.allclose(np.asarray(b), start)


def test_biases_and_embeddings_do_not_decay() -> None:
    with keras.name_scope("embedding"):
        matrix = keras.Variable([1.0], name="matrix")
    kernel, bias = keras.Variable([1.0], name="kernel"), keras.Variable([1.0], name="bias")
    variables = [matrix, kernel, bias]
    chosen = replace(PLAIN, optimizer="adamw", weight_decay=0.5)
    optimizer = make_optimizer(chosen, variables)
    optimizer.apply([tf.zeros([1])] * 3, variables)
    assert [float(np.asarray(v).item()) for v in variables] == pytest.approx([1, 0.95, 1])


def test_averages_follow_the_weights_and_stand_in_for_them() -> None:
    made = learner(ema_decay=0.5)
    made.train_step([batch([1], [0], [1])], 0)  # w: 1 -> 0.9, decay min(0.5, 1/10)
    made.train_step([batch([1], [0], [1])], 1)  # w: 0.9 -> 0.81, decay min(0.5, 2/11)
    first = 0.1 * 1 + 0.9 * 0.9
    expected = 2 / 11 * first + 9 / 11 * 0.81
    assert float(made.weights.ema_values()[0].numpy().item()) == pytest.approx(expected)
    with ema_weights(made):
        assert weight(made) == pytest.approx(expected)
    assert weight(made) == pytest.approx(0.81)
