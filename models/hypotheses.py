"""What a search keeps: its inputs, its hypotheses, finished and unfinished, and its answers.

Shapes: B inputs, K hypotheses of each, A answers, T tokens, S source positions.
"""

from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

Nest: TypeAlias = Any
"""A nest of tensors, as tf.nest takes them."""

Maybe: TypeAlias = Any
"""A tensor, or () where the settings don't need it, so that loops carry nothing for it."""


class SearchInputs(NamedTuple):
    """The inputs of decoding: nests with the batch as their first axis, B.

    state, memory  the state before the first token, and what stays the same in all steps.
    source_length  (B,) int32, on which the maximum length depends.
    sample_ids     (B,) int32: inputs with different ids draw different samples; those with the same
                   id and seed draw the same. None: the position in the batch.
    """

    state: Nest
    memory: Nest
    source_length: tf.Tensor
    sample_ids: tf.Tensor | None = None


class Hypotheses(NamedTuple):
    """Answers to each input, the best first.

    ids (B, A, T) int32, without the end marker, 0 after the end; T is that of the longest, at
    least 1. length (B, A) int32. score (B, A), by which they are ranked: for a beam with its
    penalties, else the log-probability. log_probability (B, A): the sum over tokens and end marker
    by the model itself, whatever the temperature and what is forbidden. attention (B, A, T, S) or,
    if not wanted or without attention, (B, A, T, 0). Where there are fewer than A sequences the
    length is 0 and the score -inf.
    """

    ids: tf.Tensor
    length: tf.Tensor
    score: tf.Tensor
    log_probability: tf.Tensor
    attention: tf.Tensor


class ActiveHypotheses(NamedTuple):
    """Unfinished hypotheses, each leaf (B, K, ...): what is reordered after a step.

    ids: the last tokens; entry: theirs in the table of backpointers. log_probability is -inf where
    there is no hypothesis. history (B, K, n - 1 + t), tokens, and coverage (B, K, S), the sum of
    attention, are () where nothing needs them.
    """

    ids: tf.Tensor
    entry: tf.Tensor
    log_probability: tf.Tensor
    state: Nest
    history: Maybe
    coverage: Maybe


class FinishedHypotheses(NamedTuple):
    """Finished hypotheses, each (B, A), from high score to low; score -inf where there is none.

    entry: that of the last token in the table of backpointers.
    """

    score: tf.Tensor
    log_probability: tf.Tensor
    length: tf.Tensor
    entry: tf.Tensor


class ActiveInputs(NamedTuple):
    """The inputs that are still searched for, each leaf (B, ...).

    position: of the input in the whole batch. max_length: most tokens. finished_count: hypotheses
    finished so far. uniform (B, K, T): random numbers, or () if none are needed.
    """

    position: tf.Tensor
    max_length: tf.Tensor
    source_length: tf.Tensor
    finished_count: tf.Tensor
    finished: FinishedHypotheses
    memory: Nest
    uniform: Maybe
