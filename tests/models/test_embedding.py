"""Token vectors: what is given stays, what is unknown learns, what is padding is nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from models.embedding import Embedding, VocabularySpec, build_embedding
from models.settings import EmbeddingSettings

SETTINGS = EmbeddingSettings(
    width=4, scale=0.05, vectors=None, trainable=True, word_dropout=0.0, dropout=0.0
)
IDS = tf.constant([[3, 1, 5], [4, 2, 0]])
MASK = tf.constant([[True, True, True], [True, True, False]])
VECTORS = np.arange(18, dtype="float32").reshape(6, 3) + 100
KNOWN = np.array([False, False, True, False, True, True])


def update_once(layer: Embedding) -> tuple[np.ndarray, np.ndarray]:
    """Every word's vector before and after a step of gradient descent on all of them."""
    every = tf.range(6)[tf.newaxis]
    mask = tf.ones([1, 6], tf.bool)
    before = layer(every, mask)[0].numpy()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(every, mask))
    for variable in layer.trainable_variables:
        gradient = tape.gradient(total, variable.value)
        variable.assign(variable - tf.convert_to_tensor(gradient))
    return before, layer(every, mask)[0].numpy()


def test_padding_is_zero() -> None:
    vectors = build_embedding(SETTINGS, VocabularySpec(6), seed=1)(IDS, MASK).numpy()
    assert vectors.shape == (2, 3, 4)
    assert not vectors[1, 2].any()
    assert vectors[MASK.numpy()].any(axis=-1).all()


def test_the_gradient_is_of_the_rows_used() -> None:
    layer = build_embedding(SETTINGS, VocabularySpec(6), seed=1)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(IDS, MASK))
    gradient = tape.gradient(total, layer.matrix.value)
    assert isinstance(gradient, tf.IndexedSlices)


def test_known_vectors_stay_and_the_rest_learn() -> None:
    layer = build_embedding(
        replace(SETTINGS, trainable=False), VocabularySpec(6, VECTORS, KNOWN), seed=1
    )
    before, after = update_once(layer)
    np.testing.assert_array_equal(before[KNOWN], VECTORS[KNOWN])
    np.testing.assert_array_equal(after[KNOWN], VECTORS[KNOWN])
    np.testing.assert_allclose(after[~KNOWN], before[~KNOWN] - 1, rtol=1e-6)
    assert np.abs(before[~KNOWN]).max() < 1, "unknown words start at random, not as given"
    assert sum(np.prod(v.shape) for v in layer.trainable_variables) == 3 * 3


def test_trainable_vectors_all_learn() -> None:
    layer = build_embedding(SETTINGS, VocabularySpec(6, VECTORS, KNOWN), seed=1)
    before, after = update_once(layer)
    np.testing.assert_array_equal(before[KNOWN], VECTORS[KNOWN])
    np.testing.assert_allclose(after, before - 1, rtol=1e-6)


def test_a_row_of_zeros_is_unknown() -> None:
    vectors = np.where(KNOWN[:, np.newaxis], VECTORS, 0)
    layer = build_embedding(replace(SETTINGS, trainable=False), VocabularySpec(6, vectors), seed=1)
    assert layer.frozen_rows == KNOWN.sum()


def test_padding_and_unknown_are_not_kept() -> None:
    known = np.ones(6, bool)
    layer = build_embedding(
        replace(SETTINGS, trainable=False), VocabularySpec(6, VECTORS, known), seed=1
    )
    assert layer.frozen_rows == 4
    assert known.all(), "the caller's array was changed"


def test_word_dropout_takes_whole_vectors() -> None:
    layer = build_embedding(replace(SETTINGS, word_dropout=0.5), VocabularySpec(6), seed=1)
    ids, mask = tf.ones([20, 50], tf.int32), tf.ones([20, 50], tf.bool)
    kept, full = layer(ids, mask, training=True).numpy(), layer(ids, mask).numpy()
    gone = ~kept.any(axis=-1)
    assert 0.4 < gone.mean() < 0.6
    np.testing.assert_allclose(kept[~gone], 2 * full[~gone], rtol=1e-6)


def test_feature_dropout_takes_numbers() -> None:
    layer = build_embedding(replace(SETTINGS, dropout=0.25), VocabularySpec(6), seed=1)
    ids, mask = tf.ones([20, 50], tf.int32), tf.ones([20, 50], tf.bool)
    kept, full = layer(ids, mask, training=True).numpy(), layer(ids, mask).numpy()
    assert 0.2 < (kept == 0).mean() < 0.3
    np.testing.assert_allclose(kept[kept != 0], full[kept != 0] / 0.75, rtol=1e-5)


@pytest.mark.parametrize(
    ("vectors", "known", "message"),
    [
        (VECTORS, KNOWN[:5], "a flag for each row"),
        (VECTORS[:5], KNOWN[:5], "each of 6 words; got 5"),
    ],
)
def test_vectors_must_fit(vectors: np.ndarray, known: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_embedding(SETTINGS, VocabularySpec(6, vectors, known), seed=1)
