"""The chain's sums, best path and marginals against all paths, one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.crf import FORBIDDEN, Potentials, best_path, log_partition, marginals, path_score

STEPS, BATCH, TAGS = 5, 4, 3
LENGTHS = np.array([5, 1, 3, 2], np.int32)


def chain(seed: int, size: float = 2.0) -> tuple[np.ndarray, Potentials]:
    draw = np.random.default_rng(seed)
    scores = draw.normal(0, size, (STEPS, BATCH, TAGS)).astype(np.float32)
    parts = [draw.normal(0, size, shape).astype(np.float32) for shape in ((3,), (3, 3), (3,))]
    return scores, Potentials(*parts)


def score_by_hand(
    scores: np.ndarray, row: int, path: tuple[int, ...], potentials: Potentials
) -> float:
    start, transitions, end = (np.asarray(part, np.float64) for part in potentials)
    total = start[path[0]] + end[path[-1]]
    total += sum(scores[t, row, tag] for t, tag in enumerate(path))
    return float(total + sum(transitions[pair] for pair in itertools.pairwise(path)))


def all_paths(scores: np.ndarray, row: int, potentials: Potentials) -> dict[tuple[int, ...], float]:
    paths = itertools.product(range(TAGS), repeat=int(LENGTHS[row]))
    return {path: score_by_hand(scores, row, path, potentials) for path in paths}


@given(st.integers(0, 10**6), st.sampled_from([0.1, 2.0, 20.0]))
@settings(max_examples=15, deadline=None)
def test_partition_and_best_path_are_those_of_all_paths(seed: int, size: float) -> None:
    scores, potentials = chain(seed, size)
    found = log_partition(scores, LENGTHS, potentials).numpy()
    tags, best = best_path(scores, LENGTHS, potentials)
    for row, length in enumerate(LENGTHS):
        paths = all_paths(scores, row, potentials)
        assert found[row] == pytest.approx(np.logaddexp.reduce(list(paths.values())), rel=1e-5)
        expected = max(paths, key=lambda path: paths[path])
        assert tuple(tags.numpy()[:length, row]) == expected
        assert not tags.numpy()[length:, row].any()
        assert best.numpy()[row] == pytest.approx(paths[expected], rel=1e-5)
    again = path_score(scores, tags, LENGTHS, potentials)
    np.testing.assert_allclose(again, best, rtol=1e-5)


def test_marginals_are_sums_over_all_paths() -> None:
    scores, potentials = chain(7)
    found = marginals(scores, LENGTHS, potentials)
    tags, pairs = found.tags.numpy(), found.pairs().numpy()
    for row, length in enumerate(LENGTHS):
        paths = all_paths(scores, row, potentials)
        total = np.logaddexp.reduce(list(paths.values()))
        by_tag, by_pair = np.zeros((STEPS, TAGS)), np.zeros((STEPS - 1, TAGS, TAGS))
        for path, score in paths.items():
            for t, tag in enumerate(path):
                by_tag[t, tag] += np.exp(score - total)
            for t, pair in enumerate(itertools.pairwise(path)):
                by_pair[t][pair] += np.exp(score - total)
        np.testing.assert_allclose(tags[:, row], by_tag, atol=1e-6)
        np.testing.assert_allclose(pairs[:, row], by_pair, atol=1e-6)
        assert tags[:length, row].sum(-1) == pytest.approx(1)
    path, _ = best_path(scores, LENGTHS, potentials)
    some = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1]], bool)
    for t, row in np.ndindex(STEPS - 1, BATCH):
        one, other = path.numpy()[t : t + 2, row]
        assert found.along(path).numpy()[t, row] == pytest.approx(pairs[t, row, one, other])
        expected = pairs[t, row, one] @ some[one]
        assert found.into(path, some).numpy()[t, row] == pytest.approx(expected, abs=1e-6)


def test_the_gradient_is_what_is_expected_of_each_score() -> None:
    """As differences of the log partition say, weighted by row."""
    scores, potentials = chain(3)
    weights = np.array([1.0, -2.0, 0.5, 3.0], np.float32)
    values = [tf.Variable(scores), *(tf.Variable(part) for part in potentials)]

    def total() -> tf.Tensor:
        return tf.reduce_sum(weights * log_partition(values[0], LENGTHS, Potentials(*values[1:])))

    with tf.GradientTape() as tape:
        result = total()
    for variable, gradient in zip(values, tape.gradient(result, values), strict=True):
        kept = variable.numpy()
        for place in itertools.islice(np.ndindex(kept.shape), 0, None, 4):
            difference = np.zeros_like(kept)
            difference[place] = 1e-2
            variable.assign(kept + difference)
            above = total().numpy()
            variable.assign(kept - difference)
            slope = (above - total().numpy()) / 2e-2
            variable.assign(kept)
            assert gradient.numpy()[place] == pytest.approx(slope, abs=5e-3)


def test_what_lies_beyond_the_end_and_beside_a_row_changes_nothing() -> None:
    scores, potentials = chain(5)
    other = scores.copy()
    for row, length in enumerate(LENGTHS):
        other[length:, row] = 1e4
    np.testing.assert_array_equal(
        log_partition(scores, LENGTHS, potentials), log_partition(other, LENGTHS, potentials)
    )
    alone = log_partition(scores[:3, 2:3], LENGTHS[2:3], potentials).numpy()
    assert alone == pytest.approx(log_partition(scores, LENGTHS, potentials).numpy()[2:3])
    order = [2, 0, 3, 1]
    tags, _ = best_path(scores, LENGTHS, potentials)
    shuffled, _ = best_path(scores[:, order], LENGTHS[order], potentials)
    np.testing.assert_array_equal(tf.gather(tags, order, axis=1), shuffled)


def test_what_is_forbidden_never_happens_however_much_speaks_for_it() -> None:
    """Tag 1 may not follow tag 0, nor begin; scores want 0, 1, 0, 1, 0."""
    potentials = Potentials(
        np.array([0, FORBIDDEN, 0], np.float32),
        np.array([[0, FORBIDDEN, 0], [0, 0, 0], [0, 0, 0]], np.float32),
        np.zeros(3, np.float32),
    )
    scores = np.zeros((5, 1, 3), np.float32)
    scores[[0, 2, 4], 0, 0] = scores[[1, 3], 0, 1] = 500
    tags, _ = best_path(scores, np.array([5]), potentials)
    path = tags.numpy()[:, 0].tolist()
    assert (0, 1) not in itertools.pairwise(path)
    assert path[0] != 1
    found = marginals(scores, np.array([5]), potentials)
    assert found.tags.numpy()[0, 0, 1] == 0
    assert not found.pairs().numpy()[:, 0, 0, 1].any()
    assert np.isfinite(log_partition(scores, np.array([5]), potentials).numpy()).all()


def test_five_thousand_positions_neither_overflow_nor_vanish() -> None:
    """Without transitions positions are independent: the log partition is their sum."""
    scores = np.random.default_rng(0).normal(0, 5, (5000, 1, 3)).astype(np.float32)
    none = Potentials(*(np.zeros(shape, np.float32) for shape in ((3,), (3, 3), (3,))))
    found = log_partition(scores, np.array([5000]), none).numpy()[0]
    assert found == pytest.approx(np.logaddexp.reduce(scores.astype(float), -1).sum(), rel=1e-6)
    tags = marginals(scores[:50], np.array([50]), none).tags.numpy()
    np.testing.assert_allclose(tags, tf.nn.softmax(scores[:50]), atol=1e-6)
