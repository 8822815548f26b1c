"""Training of the n-gram classifier: ratios by hand, and what decides the weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from models.ngram_training import classify, log_count_ratios, to_probabilities, train_weights


def coin_flips(classes: int, texts: int = 90) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Texts of seven n-grams and their labels, both drawn at random."""
    random = np.random.default_rng(0)
    rows = (random.random((texts, 7)) < 0.5).astype(np.float32)
    return sparse.csr_matrix(rows), random.integers(classes, size=texts)


def test_ratios_by_hand() -> None:
    train = sparse.csr_matrix(np.array([[1, 0], [1, 0], [1, 1], [0, 1]]))
    # The second class's counts plus 1 are (1, 2) of 3, those of the first (4, 2) of 6.
    ratios = log_count_ratios(train, np.array([0, 0, 0, 1]), 2)
    expected = np.log(2) * np.array([[1, -1], [-1, 1]])
    np.testing.assert_allclose(ratios, expected, rtol=1e-6)


def test_the_seed_decides() -> None:
    train, labels = coin_flips(2)
    first, again, other = (train_weights(train, labels, 2, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_ratios_of_three_classes_are_each_against_all_others() -> None:
    train = sparse.csr_matrix(np.array([[1, 0], [0, 1], [0, 1], [0, 1], [1, 1]]))
    # Counts by class: (1, 0), (0, 3), (1, 1). Plus 1 they are (2, 1) of 3, (1, 4) of 5 and (2, 2)
    # of 4; all others' (2, 5) of 7, (3, 2) of 5 and (2, 4) of 6.
    ratios = log_count_ratios(train, np.array([0, 1, 1, 1, 2]), 3)
    expected = np.log([[7 / 3, 7 / 15], [1 / 3, 2], [3 / 2, 3 / 4]])
    np.testing.assert_allclose(ratios, expected, rtol=1e-6)


@pytest.mark.parametrize(("classes", "rows"), [(2, 1), (3, 3)])
def test_of_two_classes_there_is_one_row_of_weights(classes: int, rows: int) -> None:
    assert train_weights(*coin_flips(classes), classes).shape == (rows, 7)


def test_ngrams_that_no_text_has_get_no_weight() -> None:
    train, labels = coin_flips(2)
    wider = sparse.hstack([sparse.csr_matrix((90, 1), dtype=np.float32), train], format="csr")
    weights = train_weights(wider, labels, 2)
    assert weights[0, 0] == 0
    assert np.all(weights[0, 1:] != 0)


def test_equal_importance_of_any_size_changes_nothing() -> None:
    train, labels = coin_flips(3)
    plain = train_weights(train, labels, 3)
    np.testing.assert_allclose(
        train_weights(train, labels, 3, weights=np.full(90, 4.0)), plain, rtol=1e-4, atol=1e-6
    )


def test_texts_without_importance_teach_nothing_but_ratios() -> None:
    """Of the same text with two labels the one that counts decides."""
    train = sparse.csr_matrix(np.tile([[1, 0], [1, 0], [1, 0], [0, 1]], (10, 1)).astype(np.float32))
    labels = np.tile([0, 0, 1, 1], 10)
    counted = [
        to_probabilities(train[:1] @ train_weights(train, labels, 2, weights=weights).T)[0, 1]
        for weights in (np.tile([1.0, 1, 0, 1], 10), np.tile([0.0, 0, 1, 1], 10))
    ]
    assert counted[0] < 0.4
    assert counted[1] > 0.6


def test_progress_is_reported_of_all_texts_of_all_epochs() -> None:
    told: list[int] = []
    train_weights(*coin_flips(2), 2, progress=told.append)
    assert told == [64, 26] * 16  # 16 epochs are the most


def test_probabilities_by_hand() -> None:
    assert to_probabilities(np.log([[3.0], [1.0]])) == pytest.approx(
        np.array([[1 / 4, 3 / 4], [1 / 2, 1 / 2]])
    )
    assert to_probabilities(np.log([[1.0, 2.0, 5.0]]) + 1e4) == pytest.approx(
        np.array([[1 / 8, 2 / 8, 5 / 8]])
    )


def test_classes_that_training_lacks_have_no_probability() -> None:
    train = sparse.csr_matrix(np.tile(np.eye(2), (20, 1)))
    answers = classify(train, np.array([1, 3] * 20), sparse.csr_matrix(np.eye(2)), 5)
    assert answers.argmax(1).tolist() == [1, 3]
    assert (answers[:, [0, 2, 4]] == 0).all()
    assert answers.sum(1) == pytest.approx(np.ones(2))
