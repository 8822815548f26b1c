"""Several recurrent networks in one classifier: each its own, their logits averaged."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.attribution import gradient_times_input
from models.classifier import (
    build_classifier,
    copy_weights,
    logits_of_networks,
    logits_of_parts,
    networks_of,
)
from models.embedding import VocabularySpec
from models.heads import HeadSettings
from models.ngrams import NgramSpec
from models.settings import EmbeddingSettings, NgramSettings, RecurrentSettings

INPUTS = {
    "tokens": tf.constant([[2, 3, 4, 9], [5, 6, 0, 0]]),
    "tokens_length": tf.constant([4, 2]),
    "ngrams": tf.constant([[1, 2, 6], [3, 0, 0]]),
}


def classifier(
    ensemble: int, *, ngrams: bool = False, seed: int = 1, dropout: float = 0.0
) -> keras.Model:
    return build_classifier(
        RecurrentSettings(
            cell="gru", bidirectional=True, layers=1, width=4, residual=False, activation="tanh",
            dropout=0.0, recurrent_dropout=0.0,
        ),
        EmbeddingSettings(
            width=5, scale=1.0, vectors=None, trainable=True, word_dropout=0.0, dropout=dropout
        ),
        HeadSettings("mean_max", 3, 0.0),
        VocabularySpec(11),
        ensemble=ensemble,
        ngrams=NgramSpec(NgramSettings(order=2, minimum_count=1, limit=9), 7) if ngrams else None,
        seed=seed,
    )  # fmt: skip


def test_logits_are_the_mean_of_those_of_the_networks() -> None:
    model = classifier(3)
    each = logits_of_networks(model, INPUTS, training=False)
    assert len(each) == 3
    texts = {name: INPUTS[name] for name in ("tokens", "tokens_length")}
    np.testing.assert_allclose(model(texts), np.mean(each, 0), rtol=1e-5)
    np.testing.assert_allclose(logits_of_parts(model, INPUTS)[0], np.mean(each, 0), rtol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 0.01
    assert np.abs(each[1] - each[2]).max() > 0.01


def test_ngrams_are_mixed_with_the_mean() -> None:
    model = classifier(2, ngrams=True)
    model.get_layer("ngram_logits").matrix.assign(np.arange(21.0).reshape(7, 3))
    model.get_layer("mix").shares.assign([0.5, 2])
    mean = np.mean(logits_of_networks(model, INPUTS, training=False), 0)
    wide = model.get_layer("ngram_logits")(INPUTS["ngrams"])
    np.testing.assert_allclose(model(INPUTS), 0.5 * mean + 2 * wide, rtol=1e-5)
    recurrent, other = logits_of_parts(model, INPUTS)
    np.testing.assert_allclose(recurrent, mean, rtol=1e-5)
    np.testing.assert_allclose(other, wide)


def test_the_first_network_is_the_one_that_there_would_be_alone() -> None:
    alone, first = classifier(1), networks_of(classifier(3))[0]
    (only,) = networks_of(alone)
    for own, other in zip(only, first, strict=True):
        for weight, same in zip(own.weights, other.weights, strict=True):
            np.testing.assert_array_equal(weight.numpy(), same.numpy())


def test_networks_share_no_weight() -> None:
    model = classifier(2)
    first, second = networks_of(model)
    assert len(model.trainable_variables) == 2 * len(classifier(1).trainable_variables)
    for own, other in zip(first, second, strict=True):
        assert not {id(weight) for weight in own.weights} & {id(weight) for weight in other.weights}


def test_dropout_differs_between_networks() -> None:
    model = classifier(2, dropout=0.5)
    first, second = networks_of(model)
    copy_weights(model, classifier(1), head=True)
    second.embedding.matrix.assign(first.embedding.matrix)
    same = logits_of_networks(model, INPUTS, training=False)
    np.testing.assert_array_equal(*same)
    dropped = logits_of_networks(model, INPUTS, training=True)
    assert np.abs(dropped[0] - dropped[1]).max() > 1e-3


@pytest.mark.parametrize(("sources", "expected"), [(1, [0, 0, 0]), (2, [0, 1, 0]), (3, [0, 1, 2])])
def test_weights_are_copied_network_by_network_in_turns(sources: int, expected: list[int]) -> None:
    model, source = classifier(3), classifier(sources, seed=7)
    copy_weights(model, source, head=False)
    for network, number in zip(networks_of(model), expected, strict=True):
        other = networks_of(source)[number]
        for weight, same in zip(network.encoder.weights, other.encoder.weights, strict=True):
            np.testing.assert_array_equal(weight.numpy(), same.numpy())
        assert np.any(network.logits.kernel != other.logits.kernel)


def test_what_a_word_contributes_is_summed_over_networks() -> None:
    model = classifier(2)
    names = [network.embedding.name for network in networks_of(model)]
    both = gradient_times_input(model, INPUTS, names)[1]
    each = [gradient_times_input(model, INPUTS, [name])[1] for name in names]
    np.testing.assert_allclose(both, each[0] + each[1], atol=1e-6)
    assert np.abs(each[0]).max() > 1e-3
    assert np.abs(each[1]).max() > 1e-3


def test_saves_and_loads(tmp_path: Path) -> None:
    model = classifier(2, ngrams=True)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(INPUTS), model(INPUTS), rtol=1e-6)
    assert len(networks_of(again)) == 2
