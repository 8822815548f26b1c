"""Attribution: how much each position of a sequence contributed to a prediction."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf


def gradient_times_input(
    model: keras.Model, inputs: Mapping[str, tf.Tensor | np.ndarray], layer: str = "embedding"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Graph code: a classifier's logits (B, C), and each position's attribution (B, T) float32.

    The attribution is the sum over features of the position's vector times the gradient of the
    largest logit: positive where the vector, scaled up, would raise that logit (Shrikumar et al.
    2016). It is 0 on padding.
    """
    parts = keras.Model(model.input, [model.get_layer(layer).output, model.output])
    tensors = {name: tf.convert_to_tensor(inputs[name]) for name in model.input}
    with tf.GradientTape() as tape:
        embedded, logits = parts(tensors, training=False)
        largest = tf.reduce_max(logits, -1)
    gradient = tape.gradient(largest, embedded)
    attribution = tf.reduce_sum(tf.cast(gradient * embedded, tf.float32), -1)
    return logits, tf.transpose(attribution)


def normalize_by_largest(weights: tf.Tensor) -> tf.Tensor:
    """Graph code: (B, T) divided by each row's largest absolute value; rows of zeros unchanged."""
    largest = tf.reduce_max(tf.abs(weights), -1, keepdims=True)
    return tf.math.divide_no_nan(weights, largest)
