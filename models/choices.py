"""How the hypotheses of a search go on after a step: the best of all, or each by its own draw."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from models.selection import largest, log_probability, ngram_successors, sample
from models.settings import Sample

NEVER = -np.inf
"""The log-probability of what is not there, or must not be."""


class Position(NamedTuple):
    """Unfinished hypotheses after a step.

    logits (B, K, V) of the next token. allowed, the same, -inf where a token would repeat an
    n-gram. log_probability (B, K), -inf where there is no hypothesis. may, must (B, 1) bool: the
    end is allowed; it is the only choice.
    """

    logits: tf.Tensor
    allowed: tf.Tensor
    log_probability: tf.Tensor
    may: tf.Tensor
    must: tf.Tensor


class Choice(NamedTuple):
    """How hypotheses go on. end (B, K): log-probability of those that finish now, else -inf.

    Of those unfinished after the step, K of them or as many as the beam is wide: the hypothesis
    that each continues, its token and its log-probability, each (B, K).
    """

    end: tf.Tensor
    parent: tf.Tensor
    token: tf.Tensor
    log_probability: tf.Tensor


def position(
    logits: tf.Tensor, log_probability: tf.Tensor, history: Any, n: int | None, **ends: tf.Tensor
) -> Position:
    """With what would repeat an n-gram of `history` forbidden, unless n is None."""
    allowed = logits
    if n is not None:
        repeats = ngram_successors(history, n)
        allowed = tf.tensor_scatter_nd_update(
            logits, repeats, tf.fill([tf.shape(repeats)[0]], NEVER)
        )
    return Position(logits, allowed, log_probability, **ends)


def flat(x: tf.Tensor) -> tf.Tensor:
    """(B, K, ...) -> (B * K, ...)."""
    shape, rest = tf.shape(x), x.shape[2:]
    rest = list(rest) if rest.is_fully_defined() else tf.unstack(shape[2:], len(rest))
    # Spelled out, as -1 can't be inferred where an axis has no width.
    return tf.reshape(x, [shape[0] * shape[1], *rest])


def best(at: Position, beam: int, end: int, forbidden: Sequence[int]) -> Choice:
    """The `beam` most likely ways to go on, of all hypotheses of a row.

    A hypothesis finishes if its end is among as many most likely tokens, the end included.
    """
    bias = np.zeros(at.logits.shape[-1], np.float32)
    bias[[end, *forbidden]] = NEVER
    shape = tf.shape(at.log_probability)
    logits = flat(at.logits)
    values, tokens = largest(flat(at.allowed), beam, bias)
    # The likelier of these two, and its logit, give the normalizer.
    ends = logits[:, end] > values[:, 0]
    likely, logit = tf.where(ends, end, tokens[:, 0]), tf.where(ends, logits[:, end], values[:, 0])
    normalizer = tf.reshape(logit - log_probability(logits, likely), shape)
    each = values.shape[-1]
    values = tf.reshape(values, [shape[0], shape[1], each])
    tokens = tf.reshape(tokens, [shape[0], shape[1] * each])
    going = _longer(at.log_probability[..., tf.newaxis], values - normalizer[..., tf.newaxis])
    going = tf.reshape(tf.where(at.must[..., tf.newaxis], NEVER, going), tf.shape(tokens))
    # Where nothing else is possible, the end is, whatever the minimum length.
    may = at.may | (values[..., 0] == NEVER)
    ended = _longer(at.log_probability, at.logits[..., end] - normalizer)
    ended = tf.where(may, ended, NEVER)
    if each < beam:
        missing = [[0, 0], [0, beam - each]]
        going, tokens = tf.pad(going, missing, constant_values=NEVER), tf.pad(tokens, missing)
    longer, place = tf.math.top_k(going, beam)
    least = tf.math.top_k(tf.concat([ended, longer], 1), beam).values[:, -1:]
    return Choice(
        end=tf.where(ended >= least, ended, NEVER),
        parent=tf.minimum(place // each, shape[1] - 1),
        token=tf.gather(tokens, place, batch_dims=1),
        log_probability=longer,
    )


def drawn(
    at: Position, uniform: tf.Tensor, settings: Sample, end: int, forbidden: Sequence[int]
) -> Choice:
    """Each hypothesis goes on by itself, by its number of uniform (B, K)."""
    shape = tf.shape(at.log_probability)
    tokens = np.arange(at.logits.shape[-1])
    others = tf.where(np.isin(tokens, [end, *forbidden]), NEVER, at.allowed)
    may = at.may | (tf.reduce_max(others, -1) == NEVER)
    token = sample(
        flat(tf.where((tokens == end) & may[..., tf.newaxis], at.logits, others)),
        tf.reshape(uniform, [-1]),
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
    )
    token = tf.where(at.must, end, tf.reshape(token, shape))
    gain = log_probability(flat(at.logits), tf.reshape(token, [-1]))
    total = _longer(at.log_probability, tf.reshape(gain, shape))
    return Choice(
        end=tf.where(token == end, total, NEVER),
        parent=tf.broadcast_to(tf.range(shape[1]), shape),
        token=token,
        log_probability=tf.where(token == end, NEVER, total),
    )


def _longer(log_probability: tf.Tensor, gain: tf.Tensor) -> tf.Tensor:
    """Never more likely than before, whatever rounding says: the bound on scores rests on it."""
    return log_probability + tf.minimum(gain, 0)
