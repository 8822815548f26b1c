"""The n-gram baseline: features by hand, and what it can learn."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.evaluate.baselines import ngrams
from pipelines.evaluate.baselines.classification import text_classifiers
from pipelines.evaluate.baselines.ngrams import NgramFeatures

NAME = "naive Bayes n-grams"


def laid_end_to_end(*texts: list[int]) -> tuple[np.ndarray, np.ndarray, int]:
    """Texts of token numbers as NgramFeatures takes them, and how many they are."""
    tokens = np.array([token for text in texts for token in text], np.int64)
    return tokens, np.repeat(np.arange(len(texts)), [len(text) for text in texts]), len(texts)


def features(*texts: list[int], classes: int = 2) -> NgramFeatures:
    return NgramFeatures(*laid_end_to_end(*texts), classes)


def test_features_are_ngrams_of_two_texts_or_more() -> None:
    made = features([1, 2], [1, 2, 2], [2], [3, 1])
    # 1, 2 and "1 2"; but "2 2", 3, "3 1" and "1 2 2" are in one text each.
    assert made.train.toarray().sum(1).tolist() == [3, 3, 1, 1]
    assert sorted(made.train.toarray().sum(0).tolist()) == [2, 3, 3]


def test_a_feature_is_1_however_often_a_text_has_it() -> None:
    made = features([1, 1, 1], [1], [2])
    assert made.train.toarray().tolist() == [[1], [1], [0]]


def test_features_of_further_texts() -> None:
    made = features([1, 2], [1, 2], [2])
    # No n-gram crosses a token that is unknown, 0, or the end of a text.
    found = made.matrix(*laid_end_to_end([1, 2], [2, 1], [1, 0, 2], [], [0], [1], [2]))
    assert found.toarray().sum(1).tolist() == [3, 2, 2, 0, 0, 1, 1]


def test_of_one_text_all_ngrams_are_features() -> None:
    assert features([1, 2, 3]).train.shape == (1, 6)


@pytest.mark.parametrize("texts", [([],), ([], []), ([1], [2])])
def test_without_a_feature_there_is_an_empty_matrix(texts: tuple[list[int], ...]) -> None:
    made = features(*texts)
    assert made.train.shape == (len(texts), 0)
    assert made.matrix(*laid_end_to_end([1, 2], [])).shape == (2, 0)


def test_of_many_classes_only_the_most_frequent_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "MAX_WEIGHTS", 5)
    made = features([1, 2], [2, 1], [2], [2], classes=4)
    assert made.train.toarray().tolist() == [[1], [1], [1], [1]]


def opposites(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Of "good" and "bad", after "very" or "not": no word alone tells the label."""
    random = np.random.default_rng(seed)
    turned, bad = random.integers(2, size=(2, n))
    words = random.choice(["film", "book", "play"], size=(n, 2))
    texts = [
        f"{first} {('very', 'not')[t]} {('good', 'bad')[b]} {last}"
        for (first, last), t, b in zip(words, turned, bad, strict=True)
    ]
    return texts, turned ^ bad


def test_pairs_tell_what_no_word_tells() -> None:
    train, labels = opposites(400, 0)
    test, expected = opposites(60, 1)
    answers = text_classifiers([train], labels, [test], classes=2)
    majority = (answers["majority class"].argmax(1) == expected).mean()
    assert majority < 0.7
    assert (answers[NAME].argmax(1) == expected).all()


def test_marks_are_tokens() -> None:
    train = ["a film !", "a film ?"] * 30
    answers = text_classifiers([train], np.array([1, 0] * 30), [["!", "?"]], classes=2)
    assert answers[NAME].argmax(1).tolist() == [1, 0]


def test_four_classes() -> None:
    words = ["red", "green", "blue", "grey"]
    train = [f"the {word} one" for word in words] * 20
    asked = ["grey", "red one", "the blue", "a green"]
    answers = text_classifiers([train], np.arange(80) % 4, [asked], classes=4)
    assert answers[NAME].argmax(1).tolist() == [3, 0, 2, 1]
    assert answers[NAME].sum(1) == pytest.approx(np.ones(4))


def test_texts_without_known_words_have_all_classes_alike() -> None:
    train = ["good film", "bad film"] * 20
    answers = text_classifiers([train], np.array([1, 0] * 20), [["", "new", "good"]], classes=2)
    assert answers[NAME][:2] == pytest.approx(np.full((2, 2), 0.5))
    assert answers[NAME][2, 1] > 0.6


def test_empty_training_texts_do_no_harm() -> None:
    train = ["good film", "", "bad film", ""] * 20
    labels = np.array([1, 0, 0, 1] * 20)
    answers = text_classifiers([train], labels, [["good", "bad"]], classes=2)
    assert answers[NAME].argmax(1).tolist() == [1, 0]


def test_there_is_none_of_one_class() -> None:
    answers = text_classifiers([["a b", "a c"]], np.array([1, 1]), [["a"]], classes=2)
    assert list(answers) == ["majority class"]
