"""How the hypotheses of a search continue after a step: the best of all, or each by sampling."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from models.settings import Sample
from models.tensors import static_size
from models.top_k import (
    blockwise_top_k,
    repeated_ngram_tokens,
    sample_tokens,
    token_log_probability,
)

IMPOSSIBLE = -np.inf
"""The log-probability of a hypothesis or a token that isn't there or isn't allowed."""


class SpecialTokens(NamedTuple):
    """begin stands before the first token, end after the last; forbidden ones are never chosen."""

    begin: int
    end: int
    forbidden: Sequence[int]


class NextTokens(NamedTuple):
    """Unfinished hypotheses and the scores of their next tokens.

    logits (B, K, V). allowed, the same, -inf where a token would repeat an n-gram. log_probability
    (B, K) of the hypotheses, -inf where there is none. end_allowed, end_forced (B, 1) bool: the end
    marker may be chosen; it must be.
    """

    logits: tf.Tensor
    allowed: tf.Tensor
    log_probability: tf.Tensor
    end_allowed: tf.Tensor
    end_forced: tf.Tensor


class Choice(NamedTuple):
    """How hypotheses continue.

    end (B, K): log-probability of those that finish now, else -inf. Of those unfinished after the
    step, each (B, K), K as before or the width of the beam: the hypothesis that each continues, its
    token and its log-probability.
    """

    end: tf.Tensor
    parent: tf.Tensor
    token: tf.Tensor
    log_probability: tf.Tensor


def forbid_repeats(logits: tf.Tensor, history: tf.Tensor, n: int) -> tf.Tensor:
    """The logits, -inf for tokens that would repeat an n-gram of `history`."""
    repeats = repeated_ngram_tokens(history, n)
    return tf.tensor_scatter_nd_update(logits, repeats, tf.fill([tf.shape(repeats)[0]], IMPOSSIBLE))


def merge_beams(x: tf.Tensor) -> tf.Tensor:
    """(B, K, ...) -> (B * K, ...)."""
    shape, static = tf.shape(x), x.shape[2:]
    rest = list(static) if static.is_fully_defined() else tf.unstack(shape[2:], len(static))
    # Spelled out, as -1 can't be inferred where an axis has no width.
    return tf.reshape(x, [shape[0] * shape[1], *rest])


def choose_best(at: NextTokens, beam: int, tokens: SpecialTokens) -> Choice:
    """The `beam` most likely ways to continue, over all hypotheses of an input.

    A hypothesis finishes if its end is among the `beam` most likely tokens, the end included.
    """
    bias = np.zeros(static_size(at.logits), np.float32)
    bias[[tokens.end, *tokens.forbidden]] = IMPOSSIBLE
    shape = tf.shape(at.log_probability)
    logits = merge_beams(at.logits)
    # Each hypothesis can give at most `beam` of the best: more of its tokens aren't needed.
    values, ids = blockwise_top_k(merge_beams(at.allowed), beam, bias)
    # log Z of the softmax, from the likelier of the end and the best token: its logit minus its
    # log-probability.
    ends = logits[:, tokens.end] > values[:, 0]
    likeliest = tf.where(ends, tokens.end, ids[:, 0])
    logit = tf.where(ends, logits[:, tokens.end], values[:, 0])
    log_z = tf.reshape(logit - token_log_probability(logits, likeliest), shape)
    each = static_size(values)
    values = tf.reshape(values, [shape[0], shape[1], each])
    ids = tf.reshape(ids, [shape[0], shape[1] * each])
    longer = _extend(at.log_probability[..., tf.newaxis], values - log_z[..., tf.newaxis])
    longer = tf.where(at.end_forced[..., tf.newaxis], IMPOSSIBLE, longer)
    longer = tf.reshape(longer, tf.shape(ids))
    # Where no other token is possible the end is, whatever the minimum length.
    end_allowed = at.end_allowed | (values[..., 0] == IMPOSSIBLE)
    ended = _extend(at.log_probability, at.logits[..., tokens.end] - log_z)
    ended = tf.where(end_allowed, ended, IMPOSSIBLE)
    if each < beam:
        missing = [[0, 0], [0, beam - each]]
        longer = tf.pad(longer, missing, constant_values=IMPOSSIBLE)
        ids = tf.pad(ids, missing)
    best, place = tf.math.top_k(longer, beam)
    # An end counts if it would be among the best of ends and continuations together.
    threshold = tf.math.top_k(tf.concat([ended, best], 1), beam).values[:, -1:]
    return Choice(
        end=tf.where(ended >= threshold, ended, IMPOSSIBLE),
        parent=tf.minimum(place // each, shape[1] - 1),
        token=tf.gather(ids, place, batch_dims=1),
        log_probability=best,
    )


def choose_sampled(
    at: NextTokens, uniform: tf.Tensor, settings: Sample, tokens: SpecialTokens
) -> Choice:
    """Each hypothesis continues by itself, by its random number uniform (B, K) in [0, 1)."""
    shape = tf.shape(at.log_probability)
    ids = np.arange(static_size(at.logits))
    excluded = np.isin(ids, [tokens.end, *tokens.forbidden])
    scores = tf.where(excluded, IMPOSSIBLE, at.allowed)
    end_allowed = at.end_allowed | (tf.reduce_max(scores, -1) == IMPOSSIBLE)
    token = sample_tokens(
        merge_beams(
            tf.where((ids == tokens.end) & end_allowed[..., tf.newaxis], at.logits, scores)
        ),
        tf.reshape(uniform, [-1]),
        settings,
    )
    token = tf.where(at.end_forced, tokens.end, tf.reshape(token, shape))
    gain = token_log_probability(merge_beams(at.logits), tf.reshape(token, [-1]))
    total = _extend(at.log_probability, tf.reshape(gain, shape))
    return Choice(
        end=tf.where(token == tokens.end, total, IMPOSSIBLE),
        parent=tf.broadcast_to(tf.range(shape[1]), shape),
        token=token,
        log_probability=tf.where(token == tokens.end, IMPOSSIBLE, total),
    )


def sample_uniform(
    settings: Sample, max_length: tf.Tensor, sample_ids: tf.Tensor | None
) -> tf.Tensor:
    """Random numbers (B, A, T) in [0, 1), one a token; an input's depend on its id and length."""
    if sample_ids is None:
        sample_ids = tf.range(tf.size(max_length))
    # A row more, as an empty batch has no shape.
    sample_ids = tf.pad(tf.cast(sample_ids, tf.int32), [[0, 1]])
    max_length = tf.pad(max_length, [[0, 1]])
    longest = tf.reduce_max(max_length) + 1

    def of_input(row: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        sample_id, length = row[0], row[1] + 1
        # Exactly as many as this input may need: the values can depend on how many are drawn.
        shape, seed = tf.stack([settings.answers, length]), tf.stack([settings.seed, sample_id])
        uniform = tf.random.stateless_uniform(shape, seed)
        return tf.pad(uniform, tf.stack([[0, 0], [0, longest - length]]))

    signature = tf.TensorSpec([settings.answers, None], tf.float32)
    rows = (sample_ids, max_length)
    numbers: tf.Tensor = tf.map_fn(of_input, rows, fn_output_signature=signature)  # type: ignore[call-overload]
    return numbers[:-1]


def _extend(log_probability: tf.Tensor, gain: tf.Tensor) -> tf.Tensor:
    """Adds a token's log-probability, which counts as at most 0.

    Rounding could otherwise make a longer hypothesis likelier, and the bound on scores, by which a
    search stops early, would not hold.
    """
    return log_probability + tf.minimum(gain, 0)
