"""The whole classifier: trains, saves, and sees no padding."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.classifier import build_classifier
from models.embedding import VocabularySpec
from models.heads import POOLINGS, HeadSettings
from models.settings import EmbeddingSettings, RecurrentSettings

VOCABULARY, CLASSES = 11, 3


def classifier(seed: int = 1, pooling: str = "attention", **given) -> keras.Model:
    options = {
        "cell": given.pop("cell", "gru"),
        "bidirectional": given.pop("bidirectional", True),
        "layers": given.pop("layers", 2),
    }
    return build_classifier(
        RecurrentSettings(
            **options, width=4, residual=True, activation="tanh", dropout=0.1, recurrent_dropout=0.1
        ),
        EmbeddingSettings(
            width=5, scale=0.05, vectors=None, trainable=False, word_dropout=0.1, dropout=0.1
        ),
        HeadSettings(pooling, CLASSES, given.pop("head_dropout", 0.1)),
        VocabularySpec(VOCABULARY, **given),
        seed=seed,
    )


def batch(pad: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    lengths = np.array([4, 1, 6, 2], "int32")
    tokens = rng.integers(2, VOCABULARY, (4, 6)) * (np.arange(6) < lengths[:, np.newaxis])
    return {"tokens": np.pad(tokens, [(0, 0), (0, pad)]).astype("int32"), "tokens_length": lengths}


def tensors(inputs: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in inputs.items()}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
def test_trains_saves_and_loads(cell: str, bidirectional: bool, tmp_path: Path) -> None:
    model = classifier(cell=cell, bidirectional=bidirectional)
    inputs, labels = tensors(batch()), tf.constant([0, 1, 2, 0])

    @tf.function
    def gradients(inputs, labels):
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    for variable, gradient in zip(
        model.trainable_variables, gradients(inputs, labels), strict=True
    ):
        assert gradient is not None, variable.path
        assert np.any(tf.convert_to_tensor(gradient)), variable.path
    logits = model(inputs)
    assert logits.dtype == tf.float32
    assert logits.shape == (4, CLASSES)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(inputs), logits, rtol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_and_company_change_nothing(pooling: str) -> None:
    model = classifier(pooling=pooling, layers=1)
    logits = model(tensors(batch())).numpy()
    np.testing.assert_allclose(model(tensors(batch(pad=5))), logits, rtol=1e-5, atol=1e-6)
    for row in range(4):
        length = batch()["tokens_length"][row]
        alone = {"tokens": batch()["tokens"][row : row + 1, :length], "tokens_length": [length]}
        np.testing.assert_allclose(model(tensors(alone))[0], logits[row], rtol=1e-5, atol=1e-6)


def test_saved_with_given_vectors(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(VOCABULARY, 7)).astype("float32")
    model = classifier(vectors=vectors, known=np.arange(VOCABULARY) % 2 == 0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    inputs = tensors(batch())
    np.testing.assert_allclose(again(inputs), model(inputs), rtol=1e-6)


def test_a_seed_gives_the_weights() -> None:
    one, same, other = classifier(1), classifier(1, head_dropout=0.0), classifier(2)
    for a, b in zip(one.trainable_variables, same.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(one.trainable_variables[0], other.trainable_variables[0])


def test_a_seed_gives_the_dropout() -> None:
    inputs = tensors(batch())
    one, same = (classifier(1)(inputs, training=True).numpy() for _ in range(2))
    np.testing.assert_array_equal(one, same)


def test_trains_with_fit_without_warnings(recwarn: pytest.WarningsRecorder) -> None:
    model = classifier()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(batch(), np.array([0, 1, 2, 0]), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert not [str(w.message) for w in recwarn if "mask" in str(w.message)]
