"""Ids of things that are known by a number, in a graph without a table that must be tracked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def find_ids(keys: tf.Tensor, sorted_keys: tf.Tensor, ids: tf.Tensor, *, missing: int) -> tf.Tensor:
    """Graph code: the ids (N,) of keys (N,), by binary search; `missing` for those unknown.

    sorted_keys, ids (K,): the known keys in ascending order, one at least, and the id of each.
    """
    import tensorflow as tf

    place = tf.minimum(tf.searchsorted(sorted_keys, keys), tf.size(sorted_keys) - 1)
    is_known = tf.gather(sorted_keys, place) == keys
    return tf.where(is_known, tf.gather(ids, place), missing)
