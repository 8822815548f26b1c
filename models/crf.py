"""Linear-chain conditional random fields (Lafferty, McCallum & Pereira 2001) in graph code.

A sequence of T positions gets one of K tags at each. The score of a path y_1 .. y_T is

    start[y_1] + sum over t of scores[t, y_t] + sum over t of transitions[y_t-1, y_t] + end[y_T]

and its probability is exp(score) divided by the sum over all K^T paths, whose logarithm is the log
partition. Everything is time-major, (T, B, K), as the recurrent layers are.

Sums over paths are done with probabilities, not with logarithms: a step is a matrix product, and
what it gives is divided by its sum, so that nothing overflows (Rabiner 1989, section V.A). In
float64, a path may be e^700 times less likely than the best at its place and still count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

FORBIDDEN = -1e4
"""The score of what may not be: as good as minus infinity, without its undefined differences."""


class Potentials(NamedTuple):
    """start (K,), transitions (K, K) from row to column, end (K,), float32."""

    start: tf.Tensor
    transitions: tf.Tensor
    end: tf.Tensor


class Marginals(NamedTuple):
    """What a chain says of each position, given all of the sequence.

    tags           (T, B, K) the probability of each tag; 0 beyond the lengths.
    before, after  (T - 1, B, K) float64: the probability that tag i is followed by tag j is
                   before[t, b, i] * moves[i, j] * after[t, b, j], with moves (K, K).
    """

    tags: tf.Tensor
    before: tf.Tensor
    after: tf.Tensor
    moves: tf.Tensor

    def pairs(self) -> tf.Tensor:
        """(T - 1, B, K, K): the probability of this tag (row) and the next (column)."""
        outer = self.before[..., tf.newaxis] * self.after[..., tf.newaxis, :]
        return tf.cast(outer * self.moves, tf.float32)

    def along(self, path: tf.Tensor) -> tf.Tensor:
        """(T - 1, B): the probability of the path's tag and the next, path (T, B) int32."""
        moves = tf.gather_nd(self.moves, tf.stack([path[:-1], path[1:]], -1))
        before = tf.gather(self.before, path[:-1], batch_dims=2)
        return tf.cast(before * moves * tf.gather(self.after, path[1:], batch_dims=2), tf.float32)

    def into(self, path: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
        """(T - 1, B): of the path's tag and a next that tags (K, K) bool, row by column, has."""
        moves = tf.where(tags, self.moves, tf.zeros_like(self.moves))
        further = tf.reduce_sum(tf.gather(moves, path[:-1]) * self.after, -1)
        return tf.cast(tf.gather(self.before, path[:-1], batch_dims=2) * further, tf.float32)


class _Forward(NamedTuple):
    """prefix (T, B, K): probabilities of tags given what was read so far; scale (T, B): what each
    step's sum was; total (B,): of the last prefix with the end; own (T, B, K): exp(scores), with 1
    for the best; shift (B,): what was taken out of the log partition.
    """

    prefix: tf.Tensor
    scale: tf.Tensor
    total: tf.Tensor
    own: tf.Tensor
    shift: tf.Tensor


def log_partition(scores: tf.Tensor, lengths: tf.Tensor, potentials: Potentials) -> tf.Tensor:
    """(B,) float32: the logarithm of the sum over all paths of exp(score).

    scores (T, B, K) float32; lengths (B,) int32, at least 1. Its gradient with respect to scores
    and potentials is what is expected of each under the chain (Sutton & McCallum 2012, section
    4.1): the backward sums that it takes are done by hand, not by differentiating a loop.
    """

    @tf.custom_gradient
    def compute(
        scores: tf.Tensor, start: tf.Tensor, transitions: tf.Tensor, end: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[..., tuple[tf.Tensor, ...]]]:
        given = Potentials(start, transitions, end)
        forward = _run_forward(scores, lengths, given)
        real = tf.sequence_mask(lengths, tf.shape(scores)[0], tf.float64)
        logs = tf.reduce_sum(tf.math.log(forward.scale) * tf.transpose(real), 0)
        value = logs + tf.math.log(forward.total) + forward.shift

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            weight = tf.cast(upstream, tf.float64)
            suffix = _run_backward(forward, lengths, given)
            tags = _tag_marginals(forward, suffix, lengths) * weight[:, tf.newaxis]
            before, after = _edges(forward, suffix, lengths)
            expected = tf.einsum("tbi,tbj->ij", before * weight[:, tf.newaxis], after)
            expected *= _exponentials(given).transitions
            last = tf.gather(tf.transpose(tags, [1, 0, 2]), lengths - 1, batch_dims=1)
            found = (tags, tf.reduce_sum(tags[0], 0), expected, tf.reduce_sum(last, 0))
            return tuple(tf.cast(part, tf.float32) for part in found)

        return tf.cast(value, tf.float32), gradient

    return compute(scores, *potentials)


def path_score(
    scores: tf.Tensor, tags: tf.Tensor, lengths: tf.Tensor, potentials: Potentials
) -> tf.Tensor:
    """(B,) float32: the score of the path tags (T, B) int32, of scores (T, B, K)."""
    real = tf.transpose(tf.sequence_mask(lengths, tf.shape(tags)[0], scores.dtype))
    own = tf.gather(scores, tags, batch_dims=2) * real
    pairs = tf.stack([tags[:-1], tags[1:]], -1)
    moves = tf.gather_nd(potentials.transitions, pairs) * real[1:]
    last = tf.gather(tf.transpose(tags), lengths - 1, batch_dims=1)
    ends = tf.gather(potentials.start, tags[0]) + tf.gather(potentials.end, last)
    return tf.reduce_sum(own, 0) + tf.reduce_sum(moves, 0) + ends


def marginals(scores: tf.Tensor, lengths: tf.Tensor, potentials: Potentials) -> Marginals:
    """Probabilities of tags and of neighbouring ones; arguments as of `log_partition`."""
    forward = _run_forward(scores, lengths, potentials)
    suffix = _run_backward(forward, lengths, potentials)
    tags = tf.cast(_tag_marginals(forward, suffix, lengths), tf.float32)
    moves = _exponentials(potentials).transitions
    return Marginals(tags, *_edges(forward, suffix, lengths), moves)


def best_path(
    scores: tf.Tensor, lengths: tf.Tensor, potentials: Potentials
) -> tuple[tf.Tensor, tf.Tensor]:
    """The path of the highest score, (T, B) int32, 0 beyond the lengths; and that score, (B,).

    Viterbi 1967; of paths of the same score it is the one with the lower tags at the end.
    """
    steps, batch, size = (tf.shape(scores)[axis] for axis in range(3))
    came_from = tf.TensorArray(tf.int32, steps, element_shape=[None, None])
    # Beyond a sequence's end its best stays, and each tag comes from itself.
    stay = tf.broadcast_to(tf.range(size), tf.stack([batch, size]))

    def step(
        t: tf.Tensor, best: tf.Tensor, came_from: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        reached = best[:, :, tf.newaxis] + potentials.transitions
        further = tf.reduce_max(reached, 1) + scores[t]
        goes_on = (t < lengths)[:, tf.newaxis]
        origin = tf.where(goes_on, tf.argmax(reached, 1, output_type=tf.int32), stay)
        return t + 1, tf.where(goes_on, further, best), came_from.write(t, origin)

    first = potentials.start + scores[0]
    _, best, came_from = tf.while_loop(
        lambda t, *_: t < steps, step, (1, first, came_from.write(0, stay))
    )
    total = best + potentials.end
    origins = came_from.stack()
    path = tf.TensorArray(tf.int32, steps, element_shape=[None])

    def back(
        t: tf.Tensor, tag: tf.Tensor, path: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        path = path.write(t, tag)
        return t - 1, tf.gather(origins[t], tag, batch_dims=1), path

    last = tf.argmax(total, 1, output_type=tf.int32)
    *_, path = tf.while_loop(lambda t, *_: t >= 0, back, (steps - 1, last, path))
    real = tf.transpose(tf.sequence_mask(lengths, steps))
    return tf.where(real, path.stack(), 0), tf.reduce_max(total, 1)


def _exponentials(potentials: Potentials) -> Potentials:
    """Exp of each in float64, with 1 for its largest entry; what is FORBIDDEN becomes 0."""
    doubled = [tf.cast(part, tf.float64) for part in potentials]
    return Potentials(*(tf.exp(part - tf.reduce_max(part)) for part in doubled))


def _run_forward(scores: tf.Tensor, lengths: tf.Tensor, potentials: Potentials) -> _Forward:
    start, move, end = _exponentials(potentials)
    doubled = tf.cast(scores, tf.float64)
    best = tf.reduce_max(doubled, -1)  # (T, B)
    own = tf.exp(doubled - best[..., tf.newaxis])
    steps = tf.shape(scores)[0]
    prefixes = tf.TensorArray(tf.float64, steps, element_shape=[None, scores.shape[-1]])
    scales = tf.TensorArray(tf.float64, steps, element_shape=[None])

    def step(
        t: tf.Tensor, prefix: tf.Tensor, prefixes: tf.TensorArray, scales: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.TensorArray]:
        further = tf.matmul(prefix, move) * own[t]
        scale = tf.reduce_sum(further, -1)
        goes_on = t < lengths
        prefix = tf.where(goes_on[:, tf.newaxis], further / scale[:, tf.newaxis], prefix)
        scale = tf.where(goes_on, scale, tf.ones_like(scale))
        return t + 1, prefix, prefixes.write(t, prefix), scales.write(t, scale)

    first = start * own[0]
    scale = tf.reduce_sum(first, -1)
    first /= scale[:, tf.newaxis]
    state = (1, first, prefixes.write(0, first), scales.write(0, scale))
    _, last, prefixes, scales = tf.while_loop(lambda t, *_: t < steps, step, state)
    real = tf.transpose(tf.sequence_mask(lengths, steps, tf.float64))
    largest = [tf.reduce_max(tf.cast(part, tf.float64)) for part in potentials]
    moves = tf.cast(lengths - 1, tf.float64)
    shift = tf.reduce_sum(best * real, 0) + largest[0] + moves * largest[1] + largest[2]
    return _Forward(prefixes.stack(), scales.stack(), tf.linalg.matvec(last, end), own, shift)


def _run_backward(forward: _Forward, lengths: tf.Tensor, potentials: Potentials) -> tf.Tensor:
    """(T, B, K): of each tag, what follows it, so that prefix * suffix sums to total."""
    _, move, end = _exponentials(potentials)
    steps = tf.shape(forward.own)[0]
    suffixes = tf.TensorArray(tf.float64, steps, element_shape=[None, forward.own.shape[-1]])

    def step(
        t: tf.Tensor, suffix: tf.Tensor, suffixes: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        following = forward.own[t + 1] * suffix / forward.scale[t + 1][:, tf.newaxis]
        further = tf.matmul(following, move, transpose_b=True)
        goes_on = (t + 1 < lengths)[:, tf.newaxis]
        suffix = tf.where(goes_on, further, suffix)
        return t - 1, suffix, suffixes.write(t, suffix)

    last = tf.ones_like(forward.own[0]) * end
    state = (steps - 2, last, suffixes.write(steps - 1, last))
    *_, suffixes = tf.while_loop(lambda t, *_: t >= 0, step, state)
    return suffixes.stack()


def _tag_marginals(forward: _Forward, suffix: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """(T, B, K) float64."""
    real = tf.transpose(tf.sequence_mask(lengths, tf.shape(suffix)[0], tf.float64))
    return forward.prefix * suffix / forward.total[:, tf.newaxis] * real[..., tf.newaxis]


def _edges(forward: _Forward, suffix: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(T - 1, B, K) twice: with exp(transitions) between them, their products are the marginals of
    pairs of neighbours; 0 beyond the lengths.
    """
    real = tf.transpose(tf.sequence_mask(lengths, tf.shape(suffix)[0], tf.float64))[1:]
    before = forward.prefix[:-1] / forward.total[:, tf.newaxis]
    after = forward.own[1:] * suffix[1:] / forward.scale[1:, :, tf.newaxis]
    return before * real[..., tf.newaxis], after
