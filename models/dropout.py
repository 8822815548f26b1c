"""Dropout whose random numbers cost half as much as those of Keras."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

LEVELS = 2**16
"""Random numbers have 16 bits: a rate is rounded to a multiple of 1 / LEVELS."""


@keras.saving.register_keras_serializable(package="recurrent")
class Dropout(keras.layers.Layer):
    """In training, zeroes a share `rate` of the features and divides the others by 1 - rate.

    Srivastava et al. 2014, scaled in training instead of in inference.
    """

    def __init__(self, rate: float, *, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate, self.seed = rate, seed
        self.noise = keras.random.SeedGenerator(seed) if rate else None
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training or not self.rate:
            return x
        return x * tf.cast(self.sample_mask(tf.shape(x)), x.dtype)

    def sample_mask(self, shape: tf.Tensor) -> tf.Tensor:
        """A new random mask of this shape, 0 or 1 / (1 - rate); ones where the rate is 0."""
        if self.noise is None:
            return tf.ones(shape)
        count = tf.reduce_prod(shape)
        seed = tf.cast(self.noise.next(), tf.int32)
        # Each 32-bit number drawn gives two of 16 bits.
        pairs = tf.random.stateless_uniform(
            tf.stack([(count + 1) // 2]),
            seed,
            minval=None,  # type: ignore[arg-type]  # all 32 bits
            maxval=None,
            dtype=tf.int32,
        )
        numbers = tf.reshape(tf.bitcast(pairs, tf.uint16), [-1])[:count]
        least = min(round(self.rate * LEVELS), LEVELS - 1)
        keep = tf.cast(numbers >= np.uint16(least), tf.float32)
        return tf.reshape(keep / (1 - least / LEVELS), shape)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
