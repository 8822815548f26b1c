"""Attribution: how much each position of a sequence contributed to a prediction."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from models.ngrams import NgramLogits


def gradient_times_input(
    model: keras.Model,
    inputs: Mapping[str, tf.Tensor | np.ndarray],
    layers: Sequence[str] = ("embedding",),
) -> tuple[tf.Tensor, tf.Tensor]:
    """Graph code: a classifier's logits (B, C), and each position's attribution (B, T) float32.

    The attribution is the sum over features of the position's vector times the gradient of the
    largest logit: positive where the vector, scaled up, would raise that logit (Shrikumar et al.
    2016). It is 0 on padding. With several layers of vectors it is the sum over them.
    """
    outputs = [model.get_layer(layer).output for layer in layers]
    parts = keras.Model(model.input, [model.output, *outputs])
    tensors = {name: tf.convert_to_tensor(inputs[name]) for name in model.input}
    with tf.GradientTape() as tape:
        logits, *embedded = parts(tensors, training=False)
        largest = tf.reduce_max(logits, -1)
    gradients = tape.gradient(largest, embedded)
    attributions = [
        tf.reduce_sum(tf.cast(gradient * vectors, tf.float32), -1)
        for gradient, vectors in zip(gradients, embedded, strict=True)
    ]
    return logits, tf.transpose(tf.add_n(attributions))


def normalize_by_largest(weights: tf.Tensor) -> tf.Tensor:
    """Graph code: (B, T) divided by each row's largest absolute value; rows of zeros unchanged."""
    largest = tf.reduce_max(tf.abs(weights), -1, keepdims=True)
    return tf.math.divide_no_nan(weights, largest)


def ngram_attribution(
    layer: NgramLogits, ids: Sequence[tf.Tensor], share: tf.Tensor, predicted: tf.Tensor
) -> tf.Tensor:
    """Graph code: what each token's n-grams add to the predicted class's logit: (B, T) float32.

    ids        by size n the n-grams (B, T - n + 1) that start at each position, 0 where none does.
    share      of the n-grams in the mixture of logits, a scalar.
    predicted  (B,) the class.

    An n-gram counts once in a text: its contribution is divided among its occurrences, and of each
    among its tokens.
    """
    total = tf.zeros(tf.shape(ids[0]))
    for size, starting in enumerate(ids, start=1):
        added = layer.contributions(starting)
        if layer.columns == 1:
            sign = tf.where(predicted == 1, 0.5, -0.5)
            added = added[..., 0] * sign[:, tf.newaxis]
        else:
            added = tf.gather(added, tf.cast(predicted, tf.int32), axis=2, batch_dims=1)
        added /= tf.cast(size * _occurrences(starting), tf.float32)
        for place in range(size):
            total += tf.pad(added, [[0, 0], [place, size - 1 - place]])[:, : tf.shape(total)[1]]
    return total * share


def _occurrences(ids: tf.Tensor) -> tf.Tensor:
    """How often each id (B, P) int32 is in its row: (B, P) int32."""
    rows = tf.range(tf.shape(ids)[0], dtype=tf.int64)[:, tf.newaxis]
    ids = tf.cast(ids, tf.int64)
    keys = tf.reshape(rows * (tf.reduce_max(ids) + 1) + ids, [-1])
    _, where, counts = tf.unique_with_counts(keys)
    return tf.reshape(tf.gather(counts, where), tf.shape(ids))
