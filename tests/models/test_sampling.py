"""Drawing answers, and choosing among a vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings as checking
from hypothesis import strategies as st
from scipy.stats import chisquare
from toy_language import (
    END,
    A,
    B,
    C,
    Toy,
    always,
    answers,
    assert_same,
    greedy,
    log_softmax,
    sampling,
    toy,
)

from models import top_k as choosing


@pytest.mark.parametrize("changes", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-3}])
def test_sampling_from_the_most_likely_alone_is_greedy(changes: dict[str, Any]) -> None:
    language = toy(8, rows=20)
    found = language.search(sampling(maximum_extra=6, answers=2, **changes))
    expected = language.search(greedy(maximum_extra=6))
    for place in range(2):
        assert [answers(found, row)[place] for row in range(20)] == [
            answers(expected, row)[0] for row in range(20)
        ]
        np.testing.assert_allclose(
            found.log_probability[:, place], expected.log_probability[:, 0], rtol=1e-5
        )


def test_frequencies_follow_the_softmax_at_the_temperature() -> None:
    table = {A: 0.4, B: 0.3, C: 0.2, END: 0.1}
    for temperature in (1.0, 0.5, 2.0):
        step = always(table, {END: 1.0})
        found = toy(0).search(sampling(temperature=temperature, answers=4000), step=step)
        first = found.ids.numpy()[0, :, 0]
        counts = [(first == token).sum() for token in (A, B, C, 0)]
        share = np.array(list(table.values())) ** (1 / temperature)
        assert chisquare(counts, 4000 * share / share.sum()).pvalue > 1e-3
        # Of the model as it is, at whatever temperature.
        expected = np.log(np.array(list(table.values()))[[0, 1, 2, 3]])
        values = found.log_probability.numpy()[0]
        for token, value in zip((A, B, C, 0), expected, strict=True):
            np.testing.assert_allclose(values[first == token], value, rtol=1e-4)


def test_the_same_seed_and_number_draw_the_same_and_others_do_not() -> None:
    one = toy(9, rows=1, scale=0.3)
    language = Toy(*(np.repeat(x, 12, 0) for x in (one.logits, one.attention, one.source_length)))
    settings = sampling(maximum_extra=8)
    found = language.search(settings)
    assert_same(found, language.search(settings))
    assert len({tuple(row) for row in found.ids.numpy()[:, 0].tolist()}) > 6
    numbers = tf.constant([5] * 12)
    assert len(np.unique(language.search(settings, sample_ids=numbers).ids[:, 0], axis=0)) == 1
    other = language.search(sampling(maximum_extra=8, seed=4))
    assert answers(found, 5) == answers(language.search(settings, sample_ids=numbers), 0)
    assert [answers(found, row) for row in range(12)] != [answers(other, row) for row in range(12)]


@pytest.mark.parametrize("size", [5, 300, 997, 2000])
@pytest.mark.parametrize(
    ("top_k", "top_p", "temperature"),
    [(None, None, 0.7), (7, None, 1.0), (None, 0.6, 1.0), (None, 0.999, 1.3), (20, 0.8, 0.9)],
)
def test_a_draw_is_the_inverse_of_the_distribution_function(
    size: int, top_k: int | None, top_p: float | None, temperature: float
) -> None:
    """Evenly spread numbers draw each token as often as its probability says."""
    logits = np.random.default_rng(size).normal(scale=3, size=size).astype("f")
    logits[::4] = -np.inf
    draws = 4096
    uniform = ((np.arange(draws) + 0.5) / draws).astype("f")
    tokens = choosing.sample_tokens(
        tf.constant(np.tile(logits, [draws, 1])),
        tf.constant(uniform),
        sampling(temperature=temperature, top_k=top_k, top_p=top_p),
    )
    order = np.argsort(-logits)[:top_k]
    expected = np.exp(logits[order].astype("d") / temperature)
    expected /= expected.sum()
    if top_p is not None:
        expected[np.cumsum(expected) - expected >= top_p] = 0
        expected /= expected.sum()
    share = np.bincount(tokens, minlength=size)[order] / draws
    np.testing.assert_allclose(share, expected, atol=1.5 / draws)
    assert np.isfinite(logits[tokens]).all()


# Choosing among a vocabulary


@checking(deadline=None, max_examples=60)
@given(
    size=st.sampled_from([4, 50, 599, 600, 2003, 8000]),
    k=st.integers(1, 12),
    forbidden=st.sets(st.integers(0, 599), max_size=4),
    seed=st.integers(0, 1000),
)
def test_the_largest_are_those_of_a_sort(size: int, k: int, forbidden: set[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(3, size)).astype("f")
    bias = np.zeros(size, "f")
    bias[[token % size for token in forbidden]] = -np.inf
    scores[:, np.isinf(bias)] += rng.choice([-9, 9])
    values, places = choosing.blockwise_top_k(tf.constant(scores), k, bias)
    expected = -np.sort(-(scores + bias), -1)[:, :k]
    np.testing.assert_array_equal(values, expected)
    taken = np.take_along_axis(scores + bias, places.numpy(), -1)
    np.testing.assert_array_equal(taken[np.isfinite(expected)], expected[np.isfinite(expected)])


def test_a_log_probability_is_that_of_the_softmax_however_large_the_logits() -> None:
    logits = np.random.default_rng(1).normal(scale=30, size=(9, 700)).astype("f") + 200
    expected = log_softmax(logits - 200)
    for token in (logits.argmax(-1), np.arange(9)):
        found = choosing.token_log_probability(tf.constant(logits), tf.constant(token, tf.int32))
        values = expected[np.arange(9), token]
        np.testing.assert_allclose(found, np.maximum(values, np.log(1e-37)), rtol=1e-4, atol=1e-6)
