"""Padding of time-major batches: sequences are padded at the end and never empty."""

from typing import NamedTuple

import tensorflow as tf


class Padding(NamedTuple):
    """Where the padding of a time-major batch is.

    keep      (T, B, 1) bool, False on padding; None if there is none.
    last      (B,), the last real position of each sequence.
    reversed  (T * B,), for each row of the reversed sequences the row of x that it comes from.
    """

    keep: tf.Tensor | None
    last: tf.Tensor
    reversed: tf.Tensor


def last_positions(mask: tf.Tensor) -> tf.Tensor:
    """The last real position of each sequence: (B,) of mask (T, B) bool; 0 where there is none."""
    return tf.maximum(tf.reduce_sum(tf.cast(mask, tf.int32), axis=0) - 1, 0)


def make_padding(x: tf.Tensor, mask: tf.Tensor | None) -> Padding:
    """The padding of x (T, B, ·) by mask (T, B) bool, or None for no padding."""
    length, batch = tf.shape(x)[0], tf.shape(x)[1]
    if mask is None:
        keep, last = None, tf.fill([batch], length - 1)
    else:
        keep = mask[..., tf.newaxis]
        last = last_positions(mask)
    # Position t of a reversed sequence is position last - t; padding stays where it is.
    t = tf.range(length)[:, tf.newaxis]
    mirrored = tf.where(t <= last, last - t, t)
    return Padding(keep, last, tf.reshape(mirrored * batch + tf.range(batch), [-1]))


def reverse_sequences(x: tf.Tensor, rows: tf.Tensor, *, training: bool) -> tf.Tensor:
    """Each sequence of x (T, B, N) in reverse order, its padding left in place.

    rows: Padding.reversed. They are gathered, since tf.reverse_sequence copies number by number.
    The order is its own inverse, so in training the gradient gathers too, instead of adding up
    rows. Exported graphs have no gradient of their own.
    """

    def reorder(values: tf.Tensor) -> tf.Tensor:
        gathered = tf.gather(tf.reshape(values, [-1, x.shape[-1]]), rows)
        return tf.reshape(gathered, tf.shape(values))

    return tf.custom_gradient(lambda x: (reorder(x), reorder))(x) if training else reorder(x)


def gather_last(y: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """The row of y (T, B, W) at each sequence's last real position, last (B,): (B, W)."""
    return tf.gather_nd(y, tf.stack([last, tf.range(tf.shape(y)[1])], axis=-1))
