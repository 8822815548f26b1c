"""The signature `explain`: all that a person wants to see of an answer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import FinishedRun

from models.attribution import gradient_times_input, ngram_attribution, normalize_by_largest
from models.classifier import build_classifier
from models.embedding import VocabularySpec
from models.heads import HeadSettings
from models.ngrams import NgramLogits
from models.settings import EmbeddingSettings, NgramSettings, RecurrentSettings


def classifier(trainable: bool = True, **more: Any) -> keras.Model:
    given = {"cell": "gru", "bidirectional": False, "layers": 1, **more}
    recurrent = RecurrentSettings(
        width=4, residual=False, activation="tanh", dropout=0.5, recurrent_dropout=0.0, **given
    )
    embedding = EmbeddingSettings(
        width=3, scale=1.0, vectors=None, trainable=trainable, word_dropout=0.5, dropout=0.5
    )
    return build_classifier(
        recurrent,
        embedding,
        HeadSettings(pooling="attention", classes=3, dropout=0.5),
        VocabularySpec(11),
        seed=4,
    )


NGRAMS = NgramSettings(order=2, minimum_count=1, limit=10)

INPUTS = {
    "tokens": np.array([[3, 5, 7, 9, 2], [4, 6, 0, 0, 0], [8, 8, 1, 0, 0]], np.int32),
    "tokens_length": np.array([5, 2, 3], np.int32),
}


@pytest.mark.parametrize(
    ("cell", "bidirectional", "trainable"),
    [("simple_rnn", True, True), ("lstm", False, True), ("gru", False, False), ("gru", True, True)],
)
def test_weights_are_gradient_times_input(cell: str, bidirectional: bool, trainable: bool) -> None:
    """By finite differences: how the largest logit changes as one position's vector is scaled."""
    model = classifier(trainable, cell=cell, bidirectional=bidirectional)
    embedding = model.get_layer("embedding")
    rest = keras.Model([embedding.output, *model.inputs], model.output)
    logits, weights = tf.function(gradient_times_input)(model, INPUTS)
    np.testing.assert_allclose(logits, model(INPUTS, training=False), atol=1e-6)
    best = np.argmax(logits, -1)
    embedded = keras.Model(model.input, embedding.output)(INPUTS).numpy().swapaxes(0, 1)
    step, (batch, time) = 1e-2, INPUTS["tokens"].shape

    def scaled(factor: float) -> np.ndarray:
        """The logits (time, batch) if the vector at one of the times is scaled."""
        factors = 1 + (factor - 1) * np.eye(time, dtype=np.float32)
        many = (factors[:, None, :, None] * embedded).reshape(time * batch, time, -1).swapaxes(0, 1)
        given = [np.tile(x, [time, *[1] * (x.ndim - 1)]) for x in INPUTS.values()]
        found = rest([many, *given], training=False).numpy().reshape(time, batch, -1)
        return found[:, np.arange(batch), best]

    expected = ((scaled(1 + step) - scaled(1 - step)) / (2 * step)).T
    np.testing.assert_allclose(weights, expected, atol=2e-4)
    assert np.abs(weights).max() > 1e-2
    assert not np.asarray(weights)[INPUTS["tokens"] == 0].any()


def test_more_padding_changes_no_weight() -> None:
    model = classifier()
    wider = {**INPUTS, "tokens": np.pad(INPUTS["tokens"], [(0, 0), (0, 4)])}
    (_, weights), (_, padded) = (gradient_times_input(model, one) for one in (INPUTS, wider))
    np.testing.assert_allclose(padded[:, :5], weights, atol=1e-6)
    assert not np.asarray(padded)[:, 5:].any()


def test_the_largest_weight_is_one_by_magnitude() -> None:
    found = normalize_by_largest(tf.constant([[1.0, -4.0, 0.0], [0.0, 0.0, 0.0], [2.0, 1.0, 0.0]]))
    np.testing.assert_array_equal(found, [[0.25, -1, 0], [0, 0, 0], [1, 0.5, 0]])


def test_a_saved_model_explains_what_it_answers(finished_run: FinishedRun) -> None:
    signatures = tf.saved_model.load(str(finished_run.directory / "saved_model")).signatures
    texts = tf.constant(["a great film of people", "awful", "", "no word of it is known"])
    explained, predicted = (signatures[name](text=texts) for name in ("explain", "serving_default"))
    assert explained["label"].numpy().tolist() == predicted["label"].numpy().tolist()
    np.testing.assert_allclose(explained["probabilities"], predicted["probabilities"], atol=1e-6)
    weights, tokens = explained["weights"].numpy(), explained["tokens"].numpy()
    assert tokens[0].tolist() == [b"a", b"great", b"film", b"of", b"people", b""]
    lengths = signatures["tokenize"](text=texts)["tokens_length"].numpy()
    assert ((tokens != b"").sum(1) == lengths).all()
    assert not weights[tokens == b""].any()
    np.testing.assert_allclose(np.abs(weights).max(1), 1, atol=1e-6)
    # "awful" is a word of negative reviews, by its vector and by its n-gram.
    assert weights[1, 0] == pytest.approx(1)


def test_an_ngram_is_divided_among_its_places_and_their_tokens() -> None:
    """The text "a b a b c": a and b twice, "a b" twice, all of them with weights by hand."""
    layer = NgramLogits(NGRAMS, 5, 2)
    layer.build(None)
    layer.matrix.assign([[0.0], [4.0], [8.0], [-6.0], [16.0]])
    words, pairs = tf.constant([[1, 2, 1, 2, 3]]), tf.constant([[4, 0, 4, 0]])
    found = ngram_attribution(layer, [words, pairs], tf.constant(0.5), tf.constant([1]))
    # Of the second class half of each weight counts, times the share: "a" is 4 / 2 / 2 places = 1,
    # "b" 2, "c" -3, and "a b" 16 / 2 / 2 places / 2 tokens = 2 for each of its tokens.
    np.testing.assert_allclose(found, 0.5 * np.array([[3, 4, 3, 4, -3]]))
    of_first = ngram_attribution(layer, [words, pairs], tf.constant(0.5), tf.constant([0]))
    np.testing.assert_allclose(of_first, -found)


def test_of_several_classes_the_predicted_one_is_explained() -> None:
    layer = NgramLogits(NGRAMS, 2, 3)
    layer.build(None)
    layer.matrix.assign([[0, 0, 0], [1, 2, 3]])
    ids = [tf.constant([[1], [1]]), tf.zeros([2, 0], tf.int32)]
    found = ngram_attribution(layer, ids, tf.constant(1.0), tf.constant([2, 0]))
    np.testing.assert_allclose(found, [[3], [1]])
