"""Padding of time-major batches: sequences are padded at the end and never empty."""

from typing import NamedTuple

import tensorflow as tf


class Padding(NamedTuple):
    """What a layer must know of padding, time-major.

    keep (T, B, 1), False on padding, or None if there is none; last (B,), the last real
    position; backward (T * B,), where each row of a sequence read backwards comes from.
    """

    keep: tf.Tensor | None
    last: tf.Tensor
    backward: tf.Tensor


def last_of(mask: tf.Tensor) -> tf.Tensor:
    """The last real position of each sequence: (B,) of mask (T, B) bool; 0 where there is none."""
    return tf.maximum(tf.reduce_sum(tf.cast(mask, tf.int32), axis=0) - 1, 0)


def padding_of(x: tf.Tensor, mask: tf.Tensor | None) -> Padding:
    """Padding of x (T, B, ·) from mask (T, B) bool, or None for no padding."""
    length, batch = tf.shape(x)[0], tf.shape(x)[1]
    if mask is None:
        keep, last = None, tf.fill([batch], length - 1)
    else:
        keep = mask[..., tf.newaxis]
        last = last_of(mask)
    t = tf.range(length)[:, tf.newaxis]
    mirrored = tf.where(t <= last, last - t, t)
    return Padding(keep, last, tf.reshape(mirrored * batch + tf.range(batch), [-1]))


def reverse(x: tf.Tensor, backward: tf.Tensor, *, training: bool) -> tf.Tensor:
    """Each sequence of x (T, B, N) read backwards, its padding left in place.

    Rows are gathered (tf.reverse_sequence copies number by number). The order is its own
    inverse, so in training the gradient gathers too, instead of adding up rows; exported graphs
    have no gradient of their own.
    """

    def reorder(values: tf.Tensor) -> tf.Tensor:
        rows = tf.gather(tf.reshape(values, [-1, x.shape[-1]]), backward)
        return tf.reshape(rows, tf.shape(values))

    return tf.custom_gradient(lambda x: (reorder(x), reorder))(x) if training else reorder(x)


def at(y: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """The row of y (T, B, W) at each sequence's last real position: (B, W)."""
    return tf.gather_nd(y, tf.stack([last, tf.range(tf.shape(y)[1])], axis=-1))
