"""Searches against brute force and by hand, alone and in a batch, in graphs and SavedModels."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings as checking
from hypothesis import strategies as st
from scipy.stats import chisquare

from models import decoding, selection
from models.decoding import Hypotheses, search
from models.settings import Beam, Greedy, NoSearch, Sample

PAD, BEGIN, END, A, B, C = range(6)
V, S, CODES = 6, 3, 61
LIMITS = {
    "maximum_ratio": 0.0,
    "maximum_extra": 3,
    "minimum_length": 0,
    "no_repeat_ngram": None,
    "replace_unknown": False,
}
MARKERS = {"begin": BEGIN, "end": END, "forbidden": (PAD, BEGIN)}


def greedy(**changes) -> Greedy:
    return Greedy(strategy="greedy", **LIMITS | changes)


def beam(width: int, **changes) -> Beam:
    penalties = {"length_penalty": 0.0, "coverage_penalty": 0.0, "answers": 1}
    return Beam(strategy="beam", beam=width, **LIMITS | penalties | changes)


def sampling(**changes) -> Sample:
    how = {"temperature": 1.0, "top_k": None, "top_p": None, "seed": 3, "answers": 1}
    return Sample(strategy="sample", **LIMITS | how | changes)


@dataclass
class Toy:
    """A language in which what comes next depends on all tokens before, by a table a row.

    logits (B, CODES, V), looks (B, CODES, S), the attention; source_length (B,).
    """

    logits: np.ndarray
    looks: np.ndarray
    source_length: np.ndarray

    def rows(self, *rows: int) -> Toy:
        which = list(rows)
        return Toy(self.logits[which], self.looks[which], self.source_length[which])

    def search(self, settings: Any, **more) -> Hypotheses:
        memory = {name: tf.constant(getattr(self, name)) for name in ("logits", "looks")}
        state = {"code": tf.zeros([len(self.logits)], tf.int32)}
        lengths = tf.constant(self.source_length, tf.int32)
        step = more.pop("step", toy_step)
        arguments = {"settings": settings, "source_length": lengths, **MARKERS, **more}
        return search(step, state, memory, **arguments)


def following(code, token):
    """The table's entry after one more token: different tokens, in any order, lead elsewhere."""
    return (code * 7 + token + 1) % CODES


def toy_step(ids: tf.Tensor, state: Any, memory: Any) -> tuple[tf.Tensor, Any, tf.Tensor]:
    code = following(state["code"], ids)
    logits, looks = (tf.gather(memory[name], code, batch_dims=1) for name in ("logits", "looks"))
    return logits, {"code": code}, looks


def toy(seed: int, rows: int = 1, scale: float = 2.0) -> Toy:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, S + 1, rows)
    looks = np.exp(rng.normal(size=(rows, CODES, S))) * (np.arange(S) < lengths[:, None, None])
    return Toy(
        rng.normal(scale=scale, size=(rows, CODES, V)).astype("f"),
        (looks / looks.sum(-1, keepdims=True)).astype("f"),
        lengths,
    )


def always(*tables: dict[int, float], last: dict[int, float] | None = None) -> Any:
    """A step whose next-token probabilities go by the position alone, for one row."""
    rows = np.full([len(tables), V], 1e-9)
    for row, table in zip(rows, tables, strict=True):
        row[list(table)] = list(table.values())
    logits = tf.constant(np.log(rows), tf.float32)

    def step(ids: tf.Tensor, state: Any, memory: Any) -> tuple[tf.Tensor, Any, tf.Tensor]:
        step.shapes.append(tuple(ids.shape))
        found = tf.gather(logits, tf.minimum(state["code"], len(tables) - 1))
        return found, {"code": state["code"] + 1}, found[..., :0]

    step.shapes = []
    return step


def answers(found: Hypotheses, row: int = 0) -> list[list[int]]:
    ids, length = found.ids.numpy()[row], found.length.numpy()[row]
    assert not any(ids[answer, length[answer] :].any() for answer in range(len(ids)))
    return [ids[answer, : length[answer]].tolist() for answer in range(len(ids))]


def same(one: Hypotheses, other: Hypotheses) -> None:
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.length, other.length)
    for a, b in zip(one[2:], other[2:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# By another way: plain Python, a hypothesis at a time


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def judged(toy: Toy, tokens: tuple[int, ...], alpha: float, beta: float) -> tuple[float, float]:
    """Score and log-probability of tokens and end marker, for a toy of one row."""
    code, total, coverage = 0, 0.0, np.zeros(S)
    for before, token in itertools.pairwise([BEGIN, *tokens, END]):
        code = following(code, before)
        total += log_softmax(toy.logits[0, code])[token]
        coverage += toy.looks[0, code]
    real = coverage[: toy.source_length[0]]
    penalty = beta * np.log(np.minimum(real, 1)).sum()
    return total / ((5 + len(tokens) + 1) / 6) ** alpha + penalty, total


def every_sequence(longest: int) -> Iterator[tuple[int, ...]]:
    for length in range(longest + 1):
        yield from itertools.product([A, B, C], repeat=length)


def beam_by_lists(toy: Toy, settings: Beam) -> list[tuple[float, tuple[int, ...]]]:
    """Beam search of a toy of one row up to its maximum, without any short cut."""
    going, finished = [((), 0.0)], []
    for t in range(settings.maximum_extra + 1):
        ended, longer = [], []
        for tokens, total in going:
            code = 0
            for token in (BEGIN, *tokens):
                code = following(code, token)
            gain = log_softmax(toy.logits[0, code])
            ended.append((total + gain[END], tokens, None))
            if t < settings.maximum_extra:
                longer += [(total + gain[token], tokens, token) for token in (A, B, C)]
        for _, tokens, token in sorted(ended + longer, key=lambda x: -x[0])[: settings.beam]:
            if token is None:
                finished.append((judged(toy, tokens, settings.length_penalty, 0)[0], tokens))
        best = sorted(longer, key=lambda x: -x[0])[: settings.beam]
        going = [((*tokens, token), total) for total, tokens, token in best]
        if len(finished) >= settings.beam:
            break
    return sorted(finished, key=lambda x: -x[0])[: settings.answers]


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
    every = [(*judged(language, tokens, alpha, beta), tokens) for tokens in every_sequence(longest)]
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
        found, expected = language.search(settings), beam_by_lists(language, settings)
        assert answers(found)[: len(expected)] == [list(tokens) for _, tokens in expected]
        scores = [score for score, _ in expected]
        np.testing.assert_allclose(found.score[0, : len(scores)], scores, rtol=1e-5)


def test_greedy_is_the_most_likely_token_each_time_and_so_is_a_beam_of_one() -> None:
    language = toy(1, rows=20)
    found = language.search(greedy(maximum_extra=5))
    for row in range(20):
        code, tokens, token = 0, [], BEGIN
        while len(tokens) < 5:
            code = following(code, token)
            logits = language.logits[row, code].copy()
            logits[[PAD, BEGIN]] = -np.inf
            token = int(logits.argmax())
            if token == END:
                break
            tokens.append(token)
        assert answers(found, row) == [tokens]
        total = judged(language.rows(row), tuple(tokens), 0, 0)[1]
        np.testing.assert_allclose(found.log_probability[row, 0], total, rtol=1e-5)
        np.testing.assert_allclose(found.score[row, 0], total, rtol=1e-5)
    for alpha in (0.0, 2.0):
        narrow = language.search(beam(1, maximum_extra=5, length_penalty=alpha))
        same(found._replace(score=narrow.score), narrow)


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
            patched.setattr(decoding._Search, "_beaten", lambda *_: False)
            same(early, language.search(settings, step=step))
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
        for leave in (1.0, 1 / 8, 0.0):
            computed.clear()
            monkeypatch.setattr(decoding, "LEAVE", leave)
            found[leave] = language.search(settings, step=step, want_attention=True), sum(computed)
        same(found[0.0][0], found[1.0][0])
        same(found[1 / 8][0], found[1.0][0])
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
    found = language.search(how(maximum_extra=6), want_attention=True)
    for row in range(6):
        for place, tokens in enumerate(answers(found, row)):
            code, expected = 0, np.zeros([found.ids.shape[2], S])
            for t, before in enumerate([BEGIN, *tokens][:-1]):
                code = following(code, before)
                expected[t] = language.looks[row, code]
            np.testing.assert_allclose(found.attention[row, place], expected, rtol=1e-6)
    assert language.search(how()).attention.shape[-1] == 0


def test_a_decoder_without_attention_gives_none() -> None:
    step = always({A: 0.9, END: 0.1})
    found = toy(0).search(greedy(), step=step, want_attention=True)
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
    whole = language.search(settings, want_attention=True)
    part = language.rows(*which)
    part.looks = np.pad(part.looks, [(0, 0), (0, 0), (0, padding)])
    found = part.search(settings, want_attention=True, numbers=tf.constant(which))
    longest = found.ids.shape[2]
    same(
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
        found = toy(1, rows=3).rows().search(settings, want_attention=True)
        assert found.ids.shape[0] == found.attention.shape[0] == 0


# Sampling


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
    language = Toy(*(np.repeat(x, 12, 0) for x in (one.logits, one.looks, one.source_length)))
    settings = sampling(maximum_extra=8)
    found = language.search(settings)
    same(found, language.search(settings))
    assert len({tuple(row) for row in found.ids.numpy()[:, 0].tolist()}) > 6
    numbers = tf.constant([5] * 12)
    assert len(np.unique(language.search(settings, numbers=numbers).ids[:, 0], axis=0)) == 1
    other = language.search(sampling(maximum_extra=8, seed=4))
    assert answers(found, 5) == answers(language.search(settings, numbers=numbers), 0)
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
    tokens = selection.sample(
        tf.constant(np.tile(logits, [draws, 1])),
        tf.constant(uniform),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
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
    values, places = selection.largest(tf.constant(scores), k, bias)
    expected = -np.sort(-(scores + bias), -1)[:, :k]
    np.testing.assert_array_equal(values, expected)
    taken = np.take_along_axis(scores + bias, places.numpy(), -1)
    np.testing.assert_array_equal(taken[np.isfinite(expected)], expected[np.isfinite(expected)])


def test_a_log_probability_is_that_of_the_softmax_however_large_the_logits() -> None:
    logits = np.random.default_rng(1).normal(scale=30, size=(9, 700)).astype("f") + 200
    expected = log_softmax(logits - 200)
    for token in (logits.argmax(-1), np.arange(9)):
        found = selection.log_probability(tf.constant(logits), tf.constant(token, tf.int32))
        values = expected[np.arange(9), token]
        np.testing.assert_allclose(found, np.maximum(values, np.log(1e-37)), rtol=1e-4, atol=1e-6)


# Graphs

SIGNATURE = [
    tf.TensorSpec([None, CODES, V]),
    tf.TensorSpec([None, CODES, None]),
    tf.TensorSpec([None], tf.int32),
]


def graph(settings: Any, signature: Any = SIGNATURE) -> Any:
    def run(logits: tf.Tensor, looks: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        state = {"code": tf.zeros([tf.shape(logits)[0]], tf.int32)}
        memory = {"logits": logits, "looks": looks}
        found = search(
            toy_step,
            state,
            memory,
            settings=settings,
            source_length=lengths,
            want_attention=True,
            **MARKERS,
        )
        return found._asdict()

    return tf.function(run, input_signature=signature)


HOW = {
    "greedy": greedy(maximum_ratio=2.0),
    "beam": beam(3, answers=2, length_penalty=0.6, coverage_penalty=0.2, no_repeat_ngram=2),
    "sample": sampling(answers=2, top_p=0.9),
}


@pytest.mark.parametrize("how", HOW)
def test_one_graph_serves_every_batch(how: str) -> None:
    run = graph(HOW[how])
    for rows, padding in ((1, 0), (5, 2), (9, 1)):
        language = toy(rows, rows=rows)
        language.looks = np.pad(language.looks, [(0, 0), (0, 0), (0, padding)])
        made = run(language.logits, language.looks, tf.constant(language.source_length, tf.int32))
        same(Hypotheses(**made), language.search(HOW[how], want_attention=True))
    assert run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("how", HOW)
def test_a_graph_of_a_known_number_of_rows_gives_the_same(how: str) -> None:
    """TensorFlow takes known sizes for constants; rows that are done leave all the same."""
    language = toy(3, rows=8)
    made = graph(HOW[how], signature=None)(
        tf.constant(language.logits, tf.float32),
        tf.constant(language.looks, tf.float32),
        tf.constant(language.source_length, tf.int32),
    )
    same(Hypotheses(**made), language.search(HOW[how], want_attention=True))


def test_a_saved_model_in_a_fresh_process_gives_the_same(tmp_path: Path) -> None:
    language = toy(2, rows=6)
    lengths = language.source_length.astype("i")
    module = tf.Module()
    for name, settings in HOW.items():
        setattr(module, name, graph(settings))
    tf.saved_model.save(module, str(tmp_path / "saved"))
    np.savez(tmp_path / "given.npz", logits=language.logits, looks=language.looks, lengths=lengths)
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "saved, given = tf.saved_model.load('saved'), np.load('given.npz')\n"
        "given = [tf.constant(given[name]) for name in ('logits', 'looks', 'lengths')]\n"
        "for name in ('greedy', 'beam', 'sample'):\n"
        "    np.savez(name, **{k: v.numpy() for k, v in getattr(saved, name)(*given).items()})\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    for name, settings in HOW.items():
        with np.load(tmp_path / f"{name}.npz") as made:
            same(Hypotheses(**made), language.search(settings, want_attention=True))


# Settings


def test_the_quick_form_of_any_search_is_greedy_with_the_same_limits() -> None:
    limits = {"maximum_ratio": 1.5, "minimum_length": 2, "no_repeat_ngram": 3}
    for settings in (greedy(**limits), beam(4, **limits), sampling(**limits)):
        assert settings.quick() == greedy(**limits)


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
