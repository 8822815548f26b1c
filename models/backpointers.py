"""The tokens of a search as linked lists, from which the answers are read at the end.

When a beam search reorders its hypotheses, their tokens would have to be copied. Instead each step
appends its tokens to one table, each with a pointer to the entry of the token before it; a
hypothesis only carries the entry of its last token. `trace_back` follows the pointers.
"""

from typing import NamedTuple

import tensorflow as tf


class Backpointers(NamedTuple):
    """The table of all tokens so far; entry 0 stands for the beginning.

    size       entries so far.
    tokens, parents  of each step (M,): its tokens, and the entries of the tokens before them.
    attention  of each step (M, S), the attention by which its tokens were chosen; or () if that
               isn't wanted.
    """

    size: tf.Tensor
    tokens: tf.TensorArray
    parents: tf.TensorArray
    attention: tf.TensorArray | tuple[()]


def start_table(*, attention: bool) -> Backpointers:
    """A table of the beginning alone, whose token is 0 and which is its own parent."""

    def steps(dtype: tf.DType, shape: list[int | None]) -> tf.TensorArray:
        return tf.TensorArray(dtype, 0, dynamic_size=True, infer_shape=False, element_shape=shape)

    return Backpointers(
        size=tf.constant(1),
        tokens=steps(tf.int32, [None]).write(0, [0]),
        parents=steps(tf.int32, [None]).write(0, [0]),
        attention=steps(tf.float32, [None, None]) if attention else (),
    )


def append_step(
    table: Backpointers,
    t: tf.Tensor,
    token: tf.Tensor,
    parent: tf.Tensor,
    attention: tf.Tensor | tuple[()],
) -> tuple[Backpointers, tf.Tensor]:
    """Appends step t: token and parent (B, K), attention (B * K, S). Returns their entries."""
    entries = tf.reshape(table.size + tf.range(tf.size(token)), tf.shape(token))
    weights = table.attention
    if not isinstance(weights, tuple):
        weights = weights.write(t, attention)
    new = Backpointers(
        size=table.size + tf.size(token),
        tokens=table.tokens.write(t + 1, tf.reshape(token, [-1])),
        parents=table.parents.write(t + 1, tf.reshape(parent, [-1])),
        attention=weights,
    )
    return new, entries


def trace_back(
    table: Backpointers, last: tf.Tensor, length: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The sequences that end at entries `last`: ids (B, A, T), attention (B, A, T, S).

    last, length (B, A). T is the largest length, at least 1; ids are 0 after the end. S is 0 if the
    table has no attention.
    """
    parents = table.parents.concat()
    longest = tf.maximum(tf.reduce_max(length), 1)
    path = tf.TensorArray(tf.int32, longest, element_shape=length.shape)

    def back(
        t: tf.Tensor, entry: tf.Tensor, path: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        # A sequence shorter than t + 1 waits at its last token, until t is below its length.
        within = t < length
        path = path.write(t, tf.where(within, entry, 0))
        return t - 1, tf.where(within, tf.gather(parents, entry), entry), path

    *_, path = tf.while_loop(lambda t, *_: t >= 0, back, (longest - 1, last, path))
    entries = tf.transpose(path.stack(), [1, 2, 0])
    ids = tf.gather(table.tokens.concat(), entries)
    if isinstance(table.attention, tuple):
        return ids, tf.zeros([*tf.unstack(tf.shape(ids)), 0])
    attention = table.attention.concat()
    of_beginning = tf.zeros([1, tf.shape(attention)[1]])
    return ids, tf.gather(tf.concat([of_beginning, attention], 0), entries)
