"""Searches against brute force and by hand, alone and in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings as checking
from hypothesis import strategies as st
from toy_language import (
    BEGIN,
    END,
    PAD,
    A,
    B,
    C,
    S,
    V,
    always,
    answers,
    assert_same,
    beam,
    beam_search_in_python,
    every_sequence,
    greedy,
    next_code,
    sampling,
    score_sequence,
    toy,
    toy_step,
)

from models import decoding
from models.hypotheses import Hypotheses
from models.settings import NoSearch

# What is found


@pytest.mark.parametrize("longest", [0, 1, 2, 3])
@pytest.mark.parametrize(("alpha", "beta"), [(0, 0), (1.0, 0), (0.6, 0.4), (0, 0.8)])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_beam_as_wide_as_all_sequences_finds_the_best_of_all(
    longest: int, alpha: float, beta: float, seed: int
) -> None:
    language, width = toy(seed), (V - 2) ** max(longest, 1)
    found = language.search(
        beam(width, answers=4, length_penalty=alpha, coverage_penalty=beta, maximum_extra=longest)
    )
    every = [
        (*score_sequence(language, tokens, alpha, beta), tokens)
        for tokens in every_sequence(longest)
    ]
    ranked = sorted(every, reverse=True)[:4]
    assert answers(found)[: len(ranked)] == [list(tokens) for *_, tokens in ranked]
    for place, (score, total, _) in enumerate(ranked):
        np.testing.assert_allclose(found.score[0, place], score, rtol=1e-5)
        np.testing.assert_allclose(found.log_probability[0, place], total, rtol=1e-5)
    assert np.isneginf(found.score[0, len(ranked) :]).all()


@pytest.mark.parametrize("alpha", [0, 0.6, 1.5])
@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_a_beam_is_what_lists_give(width: int, alpha: float) -> None:
    for seed in range(8):
        language = toy(seed)
        settings = beam(width, answers=min(width, 2), length_penalty=alpha, maximum_extra=6)
        found, expected = language.search(settings), beam_search_in_python(language, settings)
        assert answers(found)[: len(expected)] == [list(tokens) for _, tokens in expected]
        scores = [score for score, _ in expected]
        np.testing.assert_allclose(found.score[0, : len(scores)], scores, rtol=1e-5)


def test_greedy_is_the_most_likely_token_each_time_and_so_is_a_beam_of_one() -> None:
    language = toy(1, rows=20)
    found = language.search(greedy(maximum_extra=5))
    for row in range(20):
        code, tokens, token = 0, [], BEGIN
        while len(tokens) < 5:
            code = next_code(code, token)
            logits = language.logits[row, code].copy()
            logits[[PAD, BEGIN]] = -np.inf
            token = int(logits.argmax())
            if token == END:
                break
            tokens.append(token)
        assert answers(found, row) == [tokens]
        total = score_sequence(language.rows(row), tuple(tokens), 0, 0)[1]
        np.testing.assert_allclose(found.log_probability[row, 0], total, rtol=1e-5)
        np.testing.assert_allclose(found.score[row, 0], total, rtol=1e-5)
    for alpha in (0.0, 2.0):
        narrow = language.search(beam(1, maximum_extra=5, length_penalty=alpha))
        assert_same(found._replace(score=narrow.score), narrow)


def test_a_length_penalty_changes_the_ranking() -> None:
    """One token: log 0.3 = -1.20, / (7/6) = -1.03. Three: log 0.27 = -1.31, / (9/6) = -0.87."""
    step = always({A: 0.6, B: 0.4}, {END: 0.5, A: 0.5}, {A: 1.0}, {END: 0.9, A: 0.1})
    best = {alpha: toy(0).search(beam(4, length_penalty=alpha), step=step) for alpha in (0.0, 1.0)}
    assert answers(best[0.0]) == [[A]]
    assert answers(best[1.0]) == [[A, A, A]]
    np.testing.assert_allclose(best[0.0].score, [[np.log(0.3)]], rtol=1e-5)
    np.testing.assert_allclose(best[1.0].score, [[np.log(0.27) * 6 / 9]], rtol=1e-5)
    np.testing.assert_allclose(best[1.0].log_probability, [[np.log(0.27)]], rtol=1e-5)


def test_finished_hypotheses_stay_as_they_are() -> None:
    """[A] finishes after one token; three tokens later it is the same, and never got longer."""
    step = always({A: 0.6, B: 0.4}, {END: 0.4, C: 0.6}, {C: 1.0}, {C: 1.0}, {END: 1.0})
    short, long = (
        toy(0).search(beam(4, answers=2, maximum_extra=extra), step=step) for extra in (1, 5)
    )
    assert answers(short)[0] == [A]
    assert answers(long) == [[A, C, C, C], [A]]
    np.testing.assert_allclose(long.log_probability, np.log([[0.36, 0.24]]), rtol=1e-5)
    np.testing.assert_array_equal(long.score[0, 1], short.score[0, 0])


def test_an_answer_that_reaches_the_maximum_is_ended_there_with_the_ends_probability() -> None:
    step = always({A: 0.9, END: 0.1})
    for settings in (greedy(), beam(2, minimum_length=3), sampling(top_k=1)):
        found = toy(0).search(settings, step=step)
        assert answers(found) == [[A, A, A]]
        np.testing.assert_allclose(found.log_probability, [[np.log(0.9**3 * 0.1)]], rtol=1e-5)


# When it stops


def test_it_stops_when_nothing_unfinished_can_win() -> None:
    """[A] has log 0.6 / (7/6) ** alpha, others at most log(0.4 * 0.9 ** n) / (26/6) ** alpha.

    For alpha 0.2 that is less from n = 0 on, which is the second step; for 1 from n = 10 on.
    """
    step = always({A: 1.0, B: 1e-6}, {END: 0.6, A: 0.4}, {A: 0.9, B: 0.1})
    for alpha, steps in ((0.0, 2), (0.2, 2), (1.0, 12)):
        step.shapes.clear()
        found = toy(0).search(beam(2, length_penalty=alpha, maximum_extra=20), step=step)
        assert len(step.shapes) == steps
        assert answers(found) == [[A]]


def test_stopping_early_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    for seed in range(10):
        language, counted = toy(seed, rows=4, scale=3.0), []

        def step(ids: tf.Tensor, *rest: Any, counted: list = counted) -> Any:
            counted.append(ids)
            return toy_step(ids, *rest)

        how = {"maximum_extra": 12, "answers": 2, "coverage_penalty": 0.1}
        settings = beam(6, length_penalty=0.3 * (seed % 4), **how)
        with monkeypatch.context() as patched:
            early = language.search(settings, step=step)
            steps.append(len(counted))
            counted.clear()
            patched.setattr(decoding._Search, "_is_settled", lambda *_: False)
            assert_same(early, language.search(settings, step=step))
            steps[-1] = (steps[-1], len(counted))
    assert all(early <= whole for early, whole in steps)
    assert sum(early for early, _ in steps) < sum(whole for _, whole in steps)


def test_rows_that_are_done_are_not_computed_and_that_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    language, computed = toy(4, rows=30), []

    def step(ids: tf.Tensor, state: Any, memory: Any) -> Any:
        computed.append(ids.shape[0])
        assert memory["logits"].shape[0] == state["code"].shape[0] == ids.shape[0]
        return toy_step(ids, state, memory)

    for settings in (
        greedy(maximum_extra=9),
        beam(3, maximum_extra=9, answers=2, length_penalty=0.6, coverage_penalty=0.2),
        sampling(maximum_extra=9, answers=2),
        beam(2, maximum_extra=9, no_repeat_ngram=2),
    ):
        found = {}
        for threshold in (1.0, 1 / 8, 0.0):
            computed.clear()
            monkeypatch.setattr(decoding, "COMPACT_THRESHOLD", threshold)
            hypotheses = language.search(settings, step=step, return_attention=True)
            found[threshold] = hypotheses, sum(computed)
        assert_same(found[0.0][0], found[1.0][0])
        assert_same(found[1 / 8][0], found[1.0][0])
        assert found[0.0][1] <= found[1 / 8][1] < found[1.0][1]


# Limits


def test_the_maximum_is_of_each_rows_own_length() -> None:
    step = always({A: 0.9, END: 0.1})
    language = toy(0, rows=4)
    language.source_length = np.array([0, 1, 10, 3])
    for settings in (greedy, sampling, lambda **limits: beam(2, **limits)):
        found = language.search(settings(maximum_ratio=1.1, maximum_extra=1), step=step)
        assert (found.length[:, 0].numpy() <= [1, 3, 12, 5]).all()
    found = language.search(greedy(maximum_ratio=1.1, maximum_extra=1), step=step)
    assert found.length[:, 0].numpy().tolist() == [1, 3, 12, 5]


@pytest.mark.parametrize("how", [greedy, sampling, lambda **limits: beam(3, **limits)])
def test_no_answer_is_shorter_than_the_minimum_unless_the_maximum_is(how: Any) -> None:
    language = toy(3, rows=20)
    language.logits[..., END] += 3
    assert (language.search(how()).length.numpy() < 2).any()
    assert (language.search(how(minimum_length=2)).length.numpy() >= 2).all()
    assert (language.search(how(minimum_length=5)).length.numpy() == 3).all()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("how", [greedy, sampling, lambda **limits: beam(3, answers=3, **limits)])
def test_no_ngram_occurs_twice(how: Any, n: int) -> None:
    language = toy(5, rows=10)
    language.logits[..., END] -= 4
    language.logits[..., A] += 2
    changes = {"maximum_extra": 9, "no_repeat_ngram": n}

    def repeated(found: Hypotheses) -> bool:
        grams = [
            [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
            for row in range(10)
            for tokens in answers(found, row)
        ]
        return any(len(set(one)) < len(one) for one in grams)

    assert repeated(language.search(how(**changes | {"no_repeat_ngram": None})))
    assert not repeated(language.search(how(**changes)))


def test_what_repeats_an_ngram_is_passed_over_for_the_next_best() -> None:
    """What comes after A is first A, then B, then C, and when all three have been, the end."""
    step = always({A: 0.5, B: 0.3, C: 0.15, END: 0.05})
    limits = {"no_repeat_ngram": 2, "maximum_extra": 9}
    for settings in (greedy(**limits), beam(1, **limits), sampling(**limits, top_k=1)):
        assert answers(toy(0).search(settings, step=step)) == [[A, A, B, A, C, A]]


def test_a_hypothesis_that_can_go_no_way_ends_whatever_the_minimum() -> None:
    """Three words, none of them twice: after three there is nothing left."""
    limits = {"no_repeat_ngram": 1, "minimum_length": 8, "maximum_extra": 9}
    for settings in (greedy(**limits), beam(2, **limits), sampling(**limits)):
        found = toy(1, rows=5).search(settings)
        assert (found.length.numpy() == 3).all()
        assert np.isfinite(found.score).all()


@pytest.mark.parametrize("how", [greedy, sampling, lambda **limits: beam(3, answers=3, **limits)])
def test_forbidden_tokens_are_never_chosen(how: Any) -> None:
    language = toy(6, rows=10)
    language.logits[..., [PAD, BEGIN, C]] += 5
    assert C in language.search(how(maximum_extra=6)).ids.numpy()
    ids = language.search(how(maximum_extra=6), forbidden=(PAD, BEGIN, C)).ids.numpy()
    assert set(ids.ravel()) == {0, A, B}


# What the step is given, and attention


def test_the_step_gets_one_memory_for_all_hypotheses_of_a_row() -> None:
    shapes = []

    def step(ids: tf.Tensor, state: Any, memory: Any) -> Any:
        shapes.append((ids.shape.as_list(), memory["logits"].shape[0], state["code"].shape[1]))
        return toy_step(ids, state, memory)

    toy(1, rows=4).search(beam(5, minimum_length=3), step=step)
    assert shapes == [([4, 1], 4, 1), *[([4, 5], 4, 5)] * 3]


@pytest.mark.parametrize("how", [greedy, sampling, lambda **limits: beam(4, answers=3, **limits)])
def test_attention_is_that_which_each_token_was_chosen_by(how: Any) -> None:
    language = toy(7, rows=6)
    found = language.search(how(maximum_extra=6), return_attention=True)
    for row in range(6):
        for place, tokens in enumerate(answers(found, row)):
            code, expected = 0, np.zeros([found.ids.shape[2], S])
            for t, before in enumerate([BEGIN, *tokens][:-1]):
                code = next_code(code, before)
                expected[t] = language.attention[row, code]
            np.testing.assert_allclose(found.attention[row, place], expected, rtol=1e-6)
    assert language.search(how()).attention.shape[-1] == 0


def test_a_decoder_without_attention_gives_none() -> None:
    step = always({A: 0.9, END: 0.1})
    found = toy(0).search(greedy(), step=step, return_attention=True)
    assert found.attention.shape == (1, 1, 3, 0)
    with pytest.raises(ValueError, match="set it to 0"):
        toy(0).search(beam(2, coverage_penalty=0.2), step=step)


# In a batch

STRATEGIES = st.sampled_from(
    [
        greedy(maximum_ratio=2.0),
        beam(3, answers=2, length_penalty=0.6, coverage_penalty=0.2, maximum_ratio=2.0),
        beam(4, maximum_ratio=1.5, no_repeat_ngram=2, minimum_length=2),
        sampling(answers=2, maximum_ratio=2.0),
        sampling(top_p=0.7, maximum_ratio=2.0),
    ]
)


@checking(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    settings=STRATEGIES,
    order=st.permutations(range(7)),
    keep=st.integers(1, 7),
    padding=st.integers(0, 3),
)
def test_an_answer_depends_on_nothing_else_in_the_batch(
    seed: int, settings: Any, order: list[int], keep: int, padding: int
) -> None:
    """Whatever other rows, in whatever order, and however much padding of the source."""
    language, which = toy(seed, rows=7), order[:keep]
    whole = language.search(settings, return_attention=True)
    part = language.rows(*which)
    part.attention = np.pad(part.attention, [(0, 0), (0, 0), (0, padding)])
    found = part.search(settings, return_attention=True, sample_ids=tf.constant(which))
    longest = found.ids.shape[2]
    assert_same(
        found._replace(attention=found.attention[..., :S]),
        Hypotheses(
            tf.gather(whole.ids, which)[..., :longest],
            *(tf.gather(x, which) for x in whole[1:4]),
            tf.gather(whole.attention, which)[:, :, :longest],
        ),
    )
    assert not tf.gather(whole.ids, which)[..., longest:].numpy().any()


def test_an_empty_batch_has_no_answers() -> None:
    for settings in (greedy(), beam(3, answers=2), sampling(answers=2)):
        found = toy(1, rows=3).rows().search(settings, return_attention=True)
        assert found.ids.shape[0] == found.attention.shape[0] == 0


# Settings


def test_the_quick_form_of_any_search_is_greedy_with_the_same_limits() -> None:
    limits = {"maximum_ratio": 1.5, "minimum_length": 2, "no_repeat_ngram": 3}
    for settings in (greedy(**limits), beam(4, **limits), sampling(**limits)):
        assert settings.to_greedy() == greedy(**limits)


def test_more_answers_than_the_beam_holds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at most decode\.beam, 2"):
        beam(2, answers=3)


def test_what_can_be_no_search_is_refused() -> None:
    with pytest.raises(ValueError, match="greedy, beam or sample; got none"):
        toy(0).search(NoSearch(strategy="none"))
    with pytest.raises(ValueError, match="end marker must be possible"):
        toy(0).search(greedy(), forbidden=(PAD, END))
    with pytest.raises(ValueError, match="above all markers"):
        toy(0).search(greedy(), forbidden=(PAD, V))
