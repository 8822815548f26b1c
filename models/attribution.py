"""Which positions of a sequence spoke for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf


def gradient_times_input(
    model: keras.Model, inputs: Mapping[str, Any], layer: str = "embedding"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Graph code: a classifier's logits (B, C), and what spoke for the largest of them, (B, T).

    The latter is the sum over features of a position's embedded value times the logit's gradient:
    positive where the vector, scaled up, would raise the logit (Shrikumar et al. 2016); float32,
    0 on padding.
    """
    parts = keras.Model(model.input, [model.get_layer(layer).output, model.output])
    tensors = {name: tf.convert_to_tensor(inputs[name]) for name in model.input}
    with tf.GradientTape() as tape:
        embedded, logits = parts(tensors, training=False)
        largest = tf.reduce_max(logits, -1)
    gradient = tape.gradient(largest, embedded)
    spoke = tf.reduce_sum(tf.cast(gradient * embedded, tf.float32), -1)
    return logits, tf.transpose(spoke)


def relative(weights: tf.Tensor) -> tf.Tensor:
    """Graph code: (B, T) such that the largest of each row is 1 or -1; rows of zeros stay so."""
    largest = tf.reduce_max(tf.abs(weights), -1, keepdims=True)
    return tf.math.divide_no_nan(weights, largest)
