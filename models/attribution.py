"""Which positions of a sequence spoke for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def gradient_times_input(
    model: keras.Model, inputs: Mapping[str, Any], classes: np.ndarray, layer: str = "embedding"
) -> np.ndarray:
    """(B, T): the sum over features of embedded value times the gradient of the class's logit.

    classes (B,) int. Positive where a token's vector, scaled up, would raise the logit
    (Shrikumar et al. 2016); 0 on padding.
    """
    parts = keras.Model(model.inputs, [model.get_layer(layer).output, model.output])
    tensors = {name: tf.convert_to_tensor(value) for name, value in inputs.items()}
    with tf.GradientTape() as tape:
        embedded, logits = parts(tensors, training=False)
        chosen = tf.gather(logits, tf.convert_to_tensor(classes), batch_dims=1)
    gradient = tape.gradient(chosen, embedded)
    return tf.reduce_sum(gradient * embedded, axis=-1).numpy()
