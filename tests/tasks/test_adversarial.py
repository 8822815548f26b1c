"""Adversarial training: which way vectors move, how far, and what is learnt from it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.embedding import VocabularySpec, build_embedding
from models.settings import EmbeddingSettings
from pipelines.core.types import Nest, Tensors
from pipelines.tasks._shared.adversarial import Adversarial

SETTINGS = EmbeddingSettings(
    width=2, scale=0.1, vectors=None, trainable=True, word_dropout=0.0, dropout=0.0
)
VECTORS = np.array([[0, 0], [0, 0], [3, 4], [0, 5]], np.float32)
"""Both words' vectors have length 5."""

SLOPES = np.array([0.6, 0.8], np.float32)


class Linear:
    """An objective: the sum over positions of vector · SLOPES, times the target."""

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Nest:
        return model(inputs, training=True)

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        return targets * tf.reduce_sum(outputs * SLOPES, [0, 2])


def model_of_vectors() -> keras.Model:
    ids = keras.Input((None,), dtype="int32", name="ids")
    layer = build_embedding(SETTINGS, VocabularySpec(4, VECTORS), seed=0)
    time_major = keras.ops.transpose(ids)
    real = keras.ops.not_equal(time_major, 0)
    # As an encoder, the model passes over padding.
    vectors = layer(time_major, real) * keras.ops.cast(real, "float32")[..., None]
    return keras.Model({"ids": ids}, vectors)


def losses(ids: list[list[int]], targets: list[float], size: float) -> np.ndarray:
    objective = Adversarial(Linear(), size, time_major=True)
    inputs = {"ids": tf.constant(ids)}
    made = objective.outputs(model_of_vectors(), inputs, tf.constant(0))
    return objective.losses(made, tf.constant(targets)).numpy()


def test_a_text_moves_by_its_share_of_a_vectors_length_up_the_gradient() -> None:
    # One word: vector · SLOPES is 5. The gradient points along SLOPES, whose length is 1: moving by
    # 0.2 of a vector's length of 5 adds 1, half of which counts.
    assert losses([[2]], [1.0], 0.2) == pytest.approx([5.0 + 0.5])


def test_the_whole_text_moves_by_that_length_not_each_word() -> None:
    # The gradient is the same at both words, so each moves by 1 / sqrt(2), and two are summed.
    assert losses([[2, 3]], [1.0], 0.2) == pytest.approx([9.0 + 0.5 * np.sqrt(2)])


def test_padding_neither_moves_nor_counts() -> None:
    assert losses([[2, 0], [2, 3]], [1.0, 1.0], 0.2)[0] == pytest.approx(5.5)


def test_the_loss_rises_whatever_its_sign() -> None:
    assert losses([[2]], [-1.0], 0.2) == pytest.approx([-5.0 + 0.5])


def test_texts_of_a_batch_move_each_by_their_own_gradient() -> None:
    assert losses([[2], [2]], [1.0, 100.0], 0.2) == pytest.approx([5.5, 550.0])


def test_a_loss_that_no_vector_changes_moves_nothing() -> None:
    assert losses([[2]], [0.0], 0.2) == pytest.approx([0.0])


def test_what_is_learnt_is_the_mean_of_both_gradients_and_not_that_of_the_displacement() -> None:
    model, objective = model_of_vectors(), Adversarial(Linear(), 0.5, time_major=True)
    matrix = model.get_layer("embedding").matrix.value
    with tf.GradientTape() as tape:
        made = objective.outputs(model, {"ids": tf.constant([[2]])}, tf.constant(0))
        total = tf.reduce_sum(objective.losses(made, tf.constant([1.0])))
    gradient = tf.convert_to_tensor(tape.gradient(total, matrix)).numpy()
    # d/dv of v · SLOPES, in both halves; the displacement is a constant.
    np.testing.assert_allclose(gradient[2], SLOPES, atol=1e-6)
    assert not gradient[[0, 1, 3]].any()


class TwoReadings:
    """An objective whose model's only embedding, (B, T, D), is called for a source and a target."""

    def outputs(self, model: keras.Model, inputs: Tensors, step: tf.Tensor) -> Nest:
        return [model(inputs[name]) for name in ("source", "target")]

    def losses(self, outputs: Nest, targets: tf.Tensor) -> tf.Tensor:
        source, target = (tf.reduce_sum(vectors * SLOPES, -1) for vectors in outputs)
        # (B, T) of the target, as a loss for each token is.
        return tf.reduce_sum(source, 1, keepdims=True) + targets * target


def test_each_reading_of_a_shared_embedding_moves_by_itself() -> None:
    ids = keras.Input((None,), dtype="int32")
    real = keras.ops.not_equal(ids, 0)
    layer = build_embedding(SETTINGS, VocabularySpec(4, VECTORS), seed=0)
    model = keras.Model(ids, layer(ids, real) * keras.ops.cast(real, "float32")[..., None])
    objective = Adversarial(TwoReadings(), 0.2, time_major=False)
    inputs = {"source": tf.constant([[2], [2]]), "target": tf.constant([[3, 2], [3, 0]])}
    made = objective.outputs(model, inputs, tf.constant(0))
    found = objective.losses(made, tf.constant([[1.0, 0.0], [1.0, 0.0]])).numpy()
    # The source's vector adds 5 to the loss of each of two tokens, and moves by 1 along SLOPES; of
    # the target only the first token's vector counts, 4, and it alone moves, by 1. Half counts.
    assert found[:, 0] == pytest.approx([5 + 4 + 0.5 * (1 + 1)] * 2)
    assert found[:, 1] == pytest.approx([5 + 0.5] * 2)
