"""A toy language, defined by a table, and its search in plain Python, one hypothesis at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from models.decoding import search
from models.hypotheses import Hypotheses, SearchInputs
from models.settings import Beam, Greedy, Sample
from models.token_choice import SpecialTokens

PAD, BEGIN, END, A, B, C = range(6)
V, S, CODES = 6, 3, 61
LIMITS = {
    "maximum_ratio": 0.0,
    "maximum_extra": 3,
    "minimum_length": 0,
    "no_repeat_ngram": None,
    "replace_unknown": False,
}
TOKENS = SpecialTokens(BEGIN, END, (PAD, BEGIN))


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
    """A language where the next token depends on all tokens before it, by one table per input.

    logits (B, CODES, V), attention (B, CODES, S), source_length (B,).
    """

    logits: np.ndarray
    attention: np.ndarray
    source_length: np.ndarray

    def rows(self, *rows: int) -> Toy:
        which = list(rows)
        return Toy(self.logits[which], self.attention[which], self.source_length[which])

    def search(self, settings: Any, **more) -> Hypotheses:
        memory = {name: tf.constant(getattr(self, name)) for name in ("logits", "attention")}
        state = {"code": tf.zeros([len(self.logits)], tf.int32)}
        lengths = tf.constant(self.source_length, tf.int32)
        inputs = SearchInputs(state, memory, lengths, more.pop("sample_ids", None))
        tokens = TOKENS._replace(forbidden=more.pop("forbidden", TOKENS.forbidden))
        return search(more.pop("step", toy_step), inputs, settings, tokens, **more)


def next_code(code, token):
    """The table's entry after one more token: other tokens, or another order, give another."""
    return (code * 7 + token + 1) % CODES


def toy_step(ids: tf.Tensor, state: Any, memory: Any) -> tuple[tf.Tensor, Any, tf.Tensor]:
    code = next_code(state["code"], ids)
    logits, attention = (
        tf.gather(memory[name], code, batch_dims=1) for name in ("logits", "attention")
    )
    return logits, {"code": code}, attention


def toy(seed: int, rows: int = 1, scale: float = 2.0) -> Toy:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, S + 1, rows)
    attention = np.exp(rng.normal(size=(rows, CODES, S))) * (np.arange(S) < lengths[:, None, None])
    return Toy(
        rng.normal(scale=scale, size=(rows, CODES, V)).astype("f"),
        (attention / attention.sum(-1, keepdims=True)).astype("f"),
        lengths,
    )


def always(*tables: dict[int, float], last: dict[int, float] | None = None) -> Any:
    """A step whose next-token probabilities depend on the position alone, for one input."""
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


def assert_same(one: Hypotheses, other: Hypotheses) -> None:
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.length, other.length)
    for a, b in zip(one[2:], other[2:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# The same in plain Python, one hypothesis at a time


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def score_sequence(
    toy: Toy, tokens: tuple[int, ...], alpha: float, beta: float
) -> tuple[float, float]:
    """Score and log-probability of tokens and end marker, for a toy with one input."""
    code, total, coverage = 0, 0.0, np.zeros(S)
    for before, token in itertools.pairwise([BEGIN, *tokens, END]):
        code = next_code(code, before)
        total += log_softmax(toy.logits[0, code])[token]
        coverage += toy.attention[0, code]
    real = coverage[: toy.source_length[0]]
    penalty = beta * np.log(np.minimum(real, 1)).sum()
    return total / ((5 + len(tokens) + 1) / 6) ** alpha + penalty, total


def every_sequence(longest: int) -> Iterator[tuple[int, ...]]:
    for length in range(longest + 1):
        yield from itertools.product([A, B, C], repeat=length)


def beam_search_in_python(toy: Toy, settings: Beam) -> list[tuple[float, tuple[int, ...]]]:
    """Beam search for a toy with one input up to its maximum length, without early stopping."""
    going, finished = [((), 0.0)], []
    for t in range(settings.maximum_extra + 1):
        ended, longer = [], []
        for tokens, total in going:
            code = 0
            for token in (BEGIN, *tokens):
                code = next_code(code, token)
            gain = log_softmax(toy.logits[0, code])
            ended.append((total + gain[END], tokens, None))
            if t < settings.maximum_extra:
                longer += [(total + gain[token], tokens, token) for token in (A, B, C)]
        for _, tokens, token in sorted(ended + longer, key=lambda x: -x[0])[: settings.beam]:
            if token is None:
                finished.append(
                    (score_sequence(toy, tokens, settings.length_penalty, 0)[0], tokens)
                )
        best = sorted(longer, key=lambda x: -x[0])[: settings.beam]
        going = [((*tokens, token), total) for total, tokens, token in best]
        if len(finished) >= settings.beam:
            break
    return sorted(finished, key=lambda x: -x[0])[: settings.answers]
