"""Tokens of a search as a linked list: each step adds its own, and nothing is copied when
hypotheses are reordered.
"""

from typing import Any, NamedTuple

import tensorflow as tf


class Records(NamedTuple):
    """Each token with the place of the one before it; place 0 stands for the beginning.

    count of records so far; of each step, its tokens (M,), the places before them (M,) and the
    attention (M, S) that they were chosen by, or () if that isn't kept.
    """

    count: tf.Tensor
    tokens: tf.TensorArray
    before: tf.TensorArray
    attention: Any


def empty(*, attention: bool) -> Records:
    """Nothing but the beginning, whose token is 0 and which comes before itself."""

    def steps(dtype: tf.DType, shape: list[int | None]) -> tf.TensorArray:
        return tf.TensorArray(dtype, 0, dynamic_size=True, infer_shape=False, element_shape=shape)

    return Records(
        count=tf.constant(1),
        tokens=steps(tf.int32, [None]).write(0, [0]),
        before=steps(tf.int32, [None]).write(0, [0]),
        attention=steps(tf.float32, [None, None]) if attention else (),
    )


def add(
    records: Records, t: tf.Tensor, token: tf.Tensor, before: tf.Tensor, attention: Any
) -> tuple[Records, tf.Tensor]:
    """With those of step t: token and before (B, K), attention (B * K, S); their places (B, K)."""
    places = tf.reshape(records.count + tf.range(tf.size(token)), tf.shape(token))
    kept = records.attention
    if not isinstance(kept, tuple):
        kept = kept.write(t, attention)
    added = Records(
        count=records.count + tf.size(token),
        tokens=records.tokens.write(t + 1, tf.reshape(token, [-1])),
        before=records.before.write(t + 1, tf.reshape(before, [-1])),
        attention=kept,
    )
    return added, places


def follow(records: Records, last: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """From the places of last tokens back: ids (B, A, T), 0 after the end, attention (B, A, T, S).

    last, length (B, A). T is the longest length, at least 1; S is 0 if no attention was kept.
    """
    before = records.before.concat()
    longest = tf.maximum(tf.reduce_max(length), 1)
    kept = tf.TensorArray(tf.int32, longest, element_shape=length.shape)

    def back(t: tf.Tensor, place: tf.Tensor, kept: tf.TensorArray) -> tuple[Any, ...]:
        within = t < length
        kept = kept.write(t, tf.where(within, place, 0))
        return t - 1, tf.where(within, tf.gather(before, place), place), kept

    *_, kept = tf.while_loop(lambda t, *_: t >= 0, back, (longest - 1, last, kept))
    places = tf.transpose(kept.stack(), [1, 2, 0])
    ids = tf.gather(records.tokens.concat(), places)
    if isinstance(records.attention, tuple):
        return ids, tf.zeros([*tf.unstack(tf.shape(ids)), 0])
    attention = records.attention.concat()
    nothing = tf.zeros([1, tf.shape(attention)[1]])
    return ids, tf.gather(tf.concat([nothing, attention], 0), places)
