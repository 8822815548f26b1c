"""The linear classifier of n-grams, and the mixture of its logits with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.classifier import build_classifier, logits_of_networks, logits_of_parts
from models.embedding import VocabularySpec
from models.heads import HeadSettings
from models.ngrams import PRIOR, LogitMix, NgramLogits, NgramSpec
from models.settings import EmbeddingSettings, NgramSettings, RecurrentSettings


def layer(ngrams: int, classes: int, order: int = 2, **more: int) -> NgramLogits:
    settings = NgramSettings(order=order, minimum_count=1, limit=100)
    made = NgramLogits(settings, ngrams, classes, **more)
    made.build(None)
    return made


def with_matrix(*rows: list[float], classes: int, order: int = 2) -> NgramLogits:
    made = layer(len(rows), classes, order)
    made.matrix.assign(rows)
    return made


def test_it_starts_without_an_opinion() -> None:
    logits = layer(3, 2)(tf.constant([[1, 2], [0, 0]]))
    assert logits.dtype == tf.float32
    assert logits.numpy().tolist() == [[0, 0], [0, 0]]


def test_two_classes_have_logits_of_opposite_sign() -> None:
    made = with_matrix([0], [2], [-3], classes=2)
    assert made(tf.constant([[1, 2], [1, 0], [0, 0]])).numpy().tolist() == [
        [0.5, -0.5],
        [-1, 1],
        [0, 0],
    ]


def test_logits_of_three_classes_are_sums_of_weights() -> None:
    made = with_matrix([0, 0, 0], [1, 2, 3], [4, 0, -5], classes=3)
    assert made(tf.constant([[1, 2, 0], [2, 0, 0]])).numpy().tolist() == [[5, 2, -2], [4, 0, -5]]


def test_padding_and_company_change_nothing() -> None:
    made = with_matrix([0], [2], [-3], classes=2)
    together = made(tf.constant([[1, 2, 0, 0], [2, 1, 0, 0], [0, 0, 0, 0]]))
    alone = made(tf.constant([[1, 2]])).numpy()
    assert together.numpy().tolist() == [*alone.tolist(), *alone.tolist(), [0, 0]]


def test_no_gradient_reaches_the_weights() -> None:
    made = layer(3, 2)
    assert made.trainable_variables == []
    assert made.variables == [made.matrix]


@pytest.mark.parametrize(("classes", "rows"), [(2, 6), (3, 2), (6, 1), (9, 1)])
def test_only_the_most_frequent_have_weights_where_there_are_too_many(
    classes: int, rows: int
) -> None:
    made = layer(8, classes, max_weights=6)  # of two classes each n-gram has one weight
    assert made.matrix.shape == (rows, 1 if classes == 2 else classes)
    made.matrix.assign(np.arange(rows)[:, None] * np.ones([1, made.columns]))
    known, rare = (made(tf.constant([ids])).numpy() for ids in ([1, 0], [7, 6]))
    assert np.any(known) == (rows > 1)
    assert not np.any(rare)
    np.testing.assert_array_equal(made(tf.constant([[1, 7]])), known)
    again = NgramLogits.from_config(made.get_config())
    again.build(None)
    assert again.matrix.shape == made.matrix.shape


@pytest.mark.parametrize("classes", [2, 3])
def test_steps_add_each_ngram_once(classes: int) -> None:
    """Also where the bits of several are in one number, the sign's included (31)."""
    random = np.random.default_rng(0)
    made = layer(70, classes, order=3)
    made.matrix.assign(np.pad(random.normal(size=(69, made.columns)), [(1, 0), (0, 0)]))
    ending = np.array([[[31, 32, 0], [1, 31, 63]], [[31, 33, 2], [64, 0, 0]],
                       [[32, 31, 30], [1, 63, 64]], [[31, 69, 95], [0, 0, 0]]])  # fmt: skip
    state = made.initial_state(2)
    seen: list[set[int]] = [set(), set()]
    for place, ids in enumerate(ending):
        state = made.step(tf.fill([2], place + 5), tf.constant(ids, tf.int32), state)
        for row in range(2):
            seen[row] |= {*ids[row].tolist()}
        whole = [sorted(one) + [0] * (20 - len(one)) for one in seen]
        np.testing.assert_allclose(
            made.to_logits(state.total), made(tf.constant(whole)), rtol=1e-5, atol=1e-6
        )
    assert state.recent.numpy().tolist() == [[7, 8], [7, 8]]


# == The mixture


def mix(parts: int = 2) -> LogitMix:
    made = LogitMix(parts)
    made.build(None)
    return made


def fitted(logits: Any, labels: Any) -> np.ndarray:
    logits = np.asarray(logits, np.float32)
    made = mix(len(logits))
    made.fit(logits, np.asarray(labels, int))
    return made.shares.numpy()


def test_a_mixture_is_the_weighted_sum() -> None:
    made = mix(3)
    logits = [tf.constant([[1.0, 2]]), tf.constant([[10.0, 0]]), tf.constant([[0.0, 100]])]
    assert made(logits).numpy().tolist() == [[11, 102]]
    made.shares.assign([2, 0.5, 0.25])
    assert made(logits).numpy().tolist() == [[7, 29]]
    assert not made.trainable_variables


def test_the_weights_that_made_the_labels_are_found() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 20_000, 3))
    mixed = 1.5 * logits[0] + 0.5 * logits[1]
    labels = (mixed + random.gumbel(size=mixed.shape)).argmax(1)  # drawn by their softmax
    assert fitted(logits, labels) == pytest.approx([1.5, 0.5], abs=0.06)


def test_a_part_that_is_always_wrong_gets_no_weight() -> None:
    labels = np.arange(60) % 2
    right = np.eye(2)[labels]
    shares = fitted([right, -right], labels)
    assert shares[0] > 0.5
    assert shares[1] == 0


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_without_examples_all_parts_count_the_same(parts: int) -> None:
    assert fitted(np.zeros((parts, 0, 3)), []) == pytest.approx([1 / parts] * parts)
    assert fitted(np.ones((parts, 5, 3)), [0] * 5) == pytest.approx([1 / parts] * parts)


@pytest.mark.parametrize(("examples", "logit"), [(1, 1.0), (3, 2.0), (1000, 0.1)])
def test_the_prior_holds_back_a_small_split_and_one_without_mistakes(
    examples: int, logit: float
) -> None:
    """All labels are right. Where the slope of cost and prior cancel, the weight w of a single part
    with n examples of logit d fulfils n d sigmoid(-d w) = PRIOR (w - 1).
    """
    (share,) = fitted([[[0, logit]] * examples], [1] * examples)
    pull = examples * logit / (1 + np.exp(logit * share))
    assert share > 1
    assert PRIOR * (share - 1) == pytest.approx(pull, rel=1e-2)


def test_huge_logits_stay_finite() -> None:
    labels = np.arange(40) % 3
    right = 1e4 * np.eye(3)[labels]
    assert np.isfinite(fitted([right, -right], labels)).all()
    assert np.isfinite(fitted([-right, -right], labels)).all()


# == In a classifier


def classifier(*, ngrams: bool = True, classes: int = 3) -> keras.Model:
    return build_classifier(
        RecurrentSettings(
            cell="gru", bidirectional=False, layers=1, width=4, residual=False, activation="tanh",
            dropout=0.0, recurrent_dropout=0.0,
        ),
        EmbeddingSettings(
            width=5, scale=0.05, vectors=None, trainable=True, word_dropout=0.0, dropout=0.0
        ),
        HeadSettings("mean", classes, 0.0),
        VocabularySpec(11),
        ngrams=NgramSpec(SETTINGS, 7) if ngrams else None,
        seed=1,
    )  # fmt: skip


SETTINGS = NgramSettings(order=2, minimum_count=1, limit=100)

INPUTS = {
    "tokens": tf.constant([[2, 3, 4], [5, 0, 0]]),
    "tokens_length": tf.constant([3, 1]),
    "ngrams": tf.constant([[1, 2, 6], [3, 0, 0]]),
}


def with_weights(model: keras.Model) -> keras.Model:
    wide = model.get_layer("ngram_logits")
    wide.matrix.assign(np.random.default_rng(0).normal(size=wide.matrix.shape))
    model.get_layer("mix").shares.assign([0.25, 2])
    return model


@pytest.mark.parametrize("classes", [2, 3])
def test_the_model_mixes_its_parts(classes: int) -> None:
    model = with_weights(classifier(classes=classes))
    recurrent, wide = logits_of_parts(model, INPUTS)
    assert recurrent.shape == wide.shape == (2, classes)
    np.testing.assert_allclose(model(INPUTS), 0.25 * recurrent + 2 * wide, rtol=1e-5)
    np.testing.assert_array_equal(wide, model.get_layer("ngram_logits")(INPUTS["ngrams"]))


def test_the_recurrent_part_is_the_model_without_ngrams() -> None:
    (alone,) = logits_of_parts(classifier(ngrams=False), INPUTS)
    recurrent, _ = logits_of_parts(with_weights(classifier()), INPUTS)
    np.testing.assert_array_equal(recurrent, alone)


@pytest.mark.parametrize("ngrams", [False, True])
def test_logits_of_networks_are_of_all_texts(ngrams: bool) -> None:
    model = classifier(ngrams=ngrams)
    expected = logits_of_parts(model, INPUTS)[0]
    assert expected.shape == (2, 3)
    (logits,) = logits_of_networks(model, INPUTS, training=False)
    np.testing.assert_array_equal(logits, expected)


def test_saves_and_loads(tmp_path: Path) -> None:
    model = with_weights(classifier())
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(INPUTS), model(INPUTS), rtol=1e-6)
    assert again.get_layer("mix").shares.numpy().tolist() == [0.25, 2]
    wide, before = again.get_layer("ngram_logits"), model.get_layer("ngram_logits")
    assert wide.settings == SETTINGS
    assert wide.get_config() == before.get_config()
