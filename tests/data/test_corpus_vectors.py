"""Word vectors of a corpus: who stands next to whom, by hand, and what follows from it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from pipelines.data.corpus_vectors import count_neighbours, mutual_information, vectors_of_corpus

A, B, X, Y, FAR = range(2, 7)


def test_neighbours_count_by_the_inverse_of_their_distance() -> None:
    counts = count_neighbours([np.array([[A, B, A, 0], [1, B, 0, 0]])], 4).toarray()
    # a-b twice at distance 1; a-a once at distance 2, which counts from both sides.
    expected = np.zeros((4, 4))
    expected[A, B] = expected[B, A] = 2.0
    expected[A, A] = 2 * 0.5
    np.testing.assert_allclose(counts, expected)


def test_neighbours_are_counted_over_all_batches_and_never_across_texts() -> None:
    together = count_neighbours([np.array([[A, B], [X, Y]])], 6).toarray()
    apart = count_neighbours([np.array([[A, B]]), np.array([[X, Y]])], 6).toarray()
    np.testing.assert_allclose(together, apart)
    assert together[B, X] == 0


def test_mutual_information_compares_with_smoothed_chance() -> None:
    counts = sparse.csr_matrix(np.array([[0.0, 3.0], [3.0, 10.0]], np.float32))
    neighbour = np.array([3.0, 13.0]) ** 0.75
    neighbour /= neighbour.sum()
    made = mutual_information(counts).toarray()
    assert made[0, 1] == pytest.approx(np.log(3 / (3 * neighbour[1])))
    assert made[1, 1] == pytest.approx(np.log(10 / (13 * neighbour[1])))
    assert np.log(3 / (13 * neighbour[0])) < 0
    assert made[1, 0] == 0


def test_words_with_the_same_neighbours_have_the_same_vector() -> None:
    texts = np.array([[A, X, B], [A, Y, B], [B, FAR, FAR], [B, FAR, FAR]])
    vectors = vectors_of_corpus([texts], 7, 3, norm=1.0, seed=0)
    np.testing.assert_allclose(vectors[X], vectors[Y], atol=1e-5)
    assert np.linalg.norm(vectors[X] - vectors[FAR]) > 0.1


def test_vectors_have_the_length_that_is_asked_for_on_average() -> None:
    texts = np.random.default_rng(0).integers(2, 40, (30, 12))
    vectors = vectors_of_corpus([texts], 41, 8, norm=0.7, seed=0)
    lengths = np.linalg.norm(vectors[vectors.any(1)], axis=1)
    assert np.sqrt((lengths**2).mean()) == pytest.approx(0.7, rel=1e-4)


def test_padding_the_unknown_word_and_words_without_neighbours_have_none() -> None:
    vectors = vectors_of_corpus([np.array([[A, B, 1], [X, 0, 0]])], 8, 3, norm=1.0, seed=0)
    assert vectors.any(axis=1).tolist() == [False, False, True, True, *[False] * 4]


def test_a_vocabulary_smaller_than_the_width_leaves_the_rest_at_zero() -> None:
    vectors = vectors_of_corpus([np.array([[A, B]])], 4, 10, norm=1.0, seed=0)
    assert vectors.shape == (4, 10)
    assert not vectors[:, 4:].any()


def test_texts_of_single_words_give_no_vectors() -> None:
    assert not vectors_of_corpus([np.array([[A], [B]])], 4, 3, norm=1.0, seed=0).any()


def test_vectors_depend_on_the_texts_and_the_seed_alone() -> None:
    texts = np.random.default_rng(1).integers(2, 30, (20, 9))
    one, again = (vectors_of_corpus([texts], 31, 4, norm=1.0, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one, again)
