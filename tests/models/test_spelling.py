"""Vectors of words by their letters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.settings import RecurrentSettings, SpellingSettings
from models.spelling import Spelling

RECURRENT = RecurrentSettings(
    cell="gru",
    bidirectional=False,
    width=5,
    layers=2,
    residual=False,
    activation="tanh",
    dropout=0.0,
    recurrent_dropout=0.0,
)
PLAIN: dict[str, Any] = {
    "network": "none", "width": 3, "output": 4, "kernel": 3, "affixes": (), "affix_width": 2,
    "affix_buckets": 64, "dropout": 0.0,
}  # fmt: skip
NETWORKS = [
    {"network": "cnn"},
    {"network": "recurrent"},
    {"affixes": (2, 3)},
    {"network": "cnn", "affixes": (1,)},
]

ADA, RAN, EMPTY = [5, 2, 3, 0, 0, 0], [7, 3, 4, 2, 3, 9], [0] * 6


def layer(**changes: Any) -> Spelling:
    made = Spelling(SpellingSettings(**{**PLAIN, **changes}), RECURRENT, 12, seed=3)
    made.build()
    return made


@pytest.mark.parametrize("changes", NETWORKS, ids=str)
def test_a_word_has_one_vector_wherever_it_stands(changes: dict[str, Any]) -> None:
    made = layer(**changes)
    found = made(tf.constant([[ADA, RAN, ADA], [RAN, EMPTY, EMPTY]])).numpy()
    assert found.shape == (2, 3, made.output_width)
    np.testing.assert_array_equal(found[0, 0], found[0, 2])
    np.testing.assert_array_equal(found[0, 1], found[1, 0])
    assert not np.allclose(found[0, 0], found[0, 1])
    alone = made(tf.constant([[RAN]])).numpy()
    np.testing.assert_allclose(alone[0, 0], found[0, 1], atol=1e-6)


@pytest.mark.parametrize("changes", NETWORKS, ids=str)
def test_more_room_behind_a_word_changes_nothing(changes: dict[str, Any]) -> None:
    made = layer(**changes)
    wider = tf.constant([[[*ADA, 0, 0, 0]]])
    np.testing.assert_allclose(made(wider), made(tf.constant([[ADA]])), atol=1e-6)


@pytest.mark.parametrize("changes", NETWORKS, ids=str)
def test_every_weight_learns(changes: dict[str, Any]) -> None:
    made = layer(**changes)
    variables = [weight.value for weight in made.trainable_variables]
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.square(made(tf.constant([[ADA, RAN]]), training=True)))
    for gradient in tape.gradient(value, variables):
        assert np.any(tf.convert_to_tensor(gradient).numpy())


def test_words_with_the_same_ending_share_its_vector_and_no_other() -> None:
    """Of affixes of two letters: beginnings and then endings."""
    found = layer(affixes=(2,))(tf.constant([[[1, 2, 8, 9, 0, 0], [3, 8, 9, 0, 0, 0]]])).numpy()
    begins, ends = found[..., :2], found[..., 2:]
    np.testing.assert_array_equal(ends[0, 0], ends[0, 1])
    assert not np.allclose(begins[0, 0], begins[0, 1])


def test_a_short_word_is_no_affix_of_a_longer_one() -> None:
    """A word of one letter has a beginning of its own, not that of words that begin with it."""
    found = layer(affixes=(2,))(tf.constant([[[4, 0, 0], [4, 4, 0]]])).numpy()
    assert not np.allclose(found[0, 0], found[0, 1])
