"""Dropout: what share it takes, what it leaves, and that a seed decides it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.dropout import Dropout

ONES = tf.ones([30, 31, 7])  # an odd number of them: random numbers are drawn in pairs


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_share_is_taken_and_the_mean_stays(rate: float) -> None:
    y = Dropout(rate, seed=1)(ONES, training=True).numpy()
    kept = y[y != 0]
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=1e-4)  # the rate is in 65,536ths
    # Within four standard deviations of a share of 6,510 numbers.
    assert abs(len(kept) / y.size - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / y.size)


def test_neighbours_are_taken_independently() -> None:
    gone = Dropout(0.5, seed=1)(tf.ones([200, 400]), training=True).numpy() == 0
    for axis in (0, 1):
        both = np.mean(gone.take(range(199), axis) & gone.take(range(1, 200), axis))
        assert both == pytest.approx(0.25, abs=0.01)


def test_a_seed_decides_and_each_call_draws_anew() -> None:
    one, same, other = Dropout(0.5, seed=1), Dropout(0.5, seed=1), Dropout(0.5, seed=2)
    first = one(ONES, training=True)
    np.testing.assert_array_equal(first, same(ONES, training=True))
    assert np.any(first != other(ONES, training=True))
    assert np.any(first != one(ONES, training=True))


def test_nothing_is_dropped_without_training_or_a_rate() -> None:
    assert Dropout(0.5, seed=1)(ONES) is ONES
    assert Dropout(0.0, seed=1)(ONES, training=True) is ONES


@pytest.mark.parametrize("rate", [1e-9, 1 - 1e-9])
def test_rates_near_the_ends_are_rates(rate: float) -> None:
    y = Dropout(rate, seed=1)(ONES, training=True).numpy()
    assert np.mean(y == 0) == pytest.approx(rate, abs=1e-3)
    assert y.max() <= 2**16  # the rate that there is, not the one that was asked for


def test_gradients_go_where_numbers_stayed() -> None:
    x = tf.Variable(ONES)
    with tf.GradientTape() as tape:
        y = Dropout(0.25, seed=3)(x, training=True)
        total = tf.reduce_sum(y)
    np.testing.assert_array_equal(tape.gradient(total, x), y)


def test_a_half_precise_layer_keeps_its_type() -> None:
    layer = Dropout(0.5, seed=1, dtype="mixed_bfloat16")
    assert layer(tf.cast(ONES, tf.bfloat16), training=True).dtype == tf.bfloat16


def test_a_layer_is_the_same_from_its_configuration() -> None:
    layer = Dropout(0.5, seed=4, name="drop")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(layer(ONES, training=True), again(ONES, training=True))
