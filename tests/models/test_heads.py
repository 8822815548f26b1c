"""Poolings by hand; the last position holds what must never count."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.heads import POOLINGS, AttentionPooling, Pooling, dense_head

Y = tf.transpose(
    [[[1.0, 8.0], [3.0, -2.0], [99.0, 99.0]], [[-5.0, -6.0], [88.0, 9.0], [7.0, 7.0]]], [1, 0, 2]
)
MASK = tf.transpose([[True, True, False], [True, False, False]])


@pytest.mark.parametrize(
    ("how", "bidirectional", "expected"),
    [
        ("last", False, [[3, -2], [-5, -6]]),
        ("last", True, [[3, 8], [-5, -6]]),
        ("mean", False, [[2, 3], [-5, -6]]),
        ("max", False, [[3, 8], [-5, -6]]),
        ("mean_max", False, [[2, 3, 3, 8], [-5, -6, -5, -6]]),
    ],
)
def test_poolings(how: str, bidirectional: bool, expected: list) -> None:
    np.testing.assert_allclose(Pooling(how, bidirectional=bidirectional)(Y, MASK), expected)


def test_attention_by_hand() -> None:
    """With A = I, a = 0 and v = (1, 0), scores are tanh of the first feature."""
    pool = AttentionPooling()
    pool.build(Y.shape)
    pool.set_weights([np.eye(2), np.zeros(2), np.array([[1.0], [0.0]])])
    pooled, weights = pool(Y, MASK[..., tf.newaxis])
    ratio = np.exp(np.tanh(1.0) - np.tanh(3.0))
    first, second = ratio / (1 + ratio), 1 / (1 + ratio)
    np.testing.assert_allclose(weights[..., 0], [[first, 1], [second, 0], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(
        pooled, [[first + 3 * second, 8 * first - 2 * second], [-5, -6]], rtol=1e-5
    )


@pytest.mark.parametrize("how", POOLINGS)
def test_no_gradient_reaches_padding(how: str) -> None:
    pool = Pooling(how, bidirectional=True)
    with tf.GradientTape() as tape:
        tape.watch(Y)
        total = tf.reduce_sum(pool(Y, MASK) ** 2)
    assert not np.any(tape.gradient(total, Y).numpy()[~MASK.numpy()])


@pytest.mark.parametrize("how", ["mean", "max", "mean_max"])
def test_the_gradient_equals_differences_and_equal_maxima_share_it(how: str) -> None:
    random = np.random.default_rng(1)
    y = random.normal(size=[3, 2, 4])
    up = tf.constant(random.normal(size=[2, 8 if how == "mean_max" else 4]))
    pool = Pooling(how, dtype="float64")
    theory, numbers = tf.test.compute_gradient(
        lambda y: tf.reduce_sum(pool(y, MASK) * up), [tf.constant(y)]
    )
    np.testing.assert_allclose(theory[0], numbers[0], atol=1e-6)
    with tf.GradientTape() as tape:
        same = tf.Variable(np.ones([3, 2, 4]))
        total = tf.reduce_sum(pool(same, MASK))
    shares = tape.gradient(total, same).numpy().sum(-1)
    kinds = 2 if how == "mean_max" else 1
    np.testing.assert_allclose(shares, 4 * kinds * np.array([[0.5, 1], [0.5, 0], [0, 0]]))


@pytest.mark.parametrize("how", POOLINGS)
def test_pooling_survives_its_config(how: str) -> None:
    pool = Pooling(how, bidirectional=True, seed=3)
    again = Pooling.from_config(pool.get_config())
    np.testing.assert_array_equal(pool(Y, MASK), again(Y, MASK))


def test_an_unknown_pooling_names_the_choices() -> None:
    with pytest.raises(ValueError, match="last, mean, max, mean_max, attention; got 'sum'"):
        Pooling("sum")


def test_the_head_answers_in_float32() -> None:
    with_dropout = dense_head(3, dropout=0.5, seed=1)
    assert len(with_dropout) == 2
    (dense,) = dense_head(3, dropout=0.0, seed=1)
    assert dense(tf.ones([2, 4], tf.bfloat16)).dtype == tf.float32
    assert keras.backend.standardize_dtype(dense.dtype) == "float32"
