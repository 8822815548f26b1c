"""Scheduled sampling: in training the decoder sometimes reads its own predictions.

Bengio et al. 2015.
"""

from collections.abc import Mapping
from typing import Protocol

import tensorflow as tf

from models.settings import ScheduledSampling
from models.token_decoder import TokenDecoder


class Seq2Seq(Protocol):
    """A model with a token decoder, such as EncoderDecoder and Captioner."""

    decoder: TokenDecoder

    def readouts(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """The inputs of the output layer after each token of the target: (B, T, R)."""
        ...


def reference_share(settings: ScheduledSampling, step: tf.Tensor) -> tf.Tensor:
    """Share of reference tokens at training step `step`, from 0; a scalar."""
    i, k = tf.cast(step, tf.float32), tf.constant(float(settings.steps))
    share = {
        "none": lambda: tf.constant(1.0),
        "constant": lambda: tf.constant(settings.floor),
        "linear": lambda: 1 - i / k,
        "exponential": lambda: tf.pow(0.5, i / k),
        # k / (k + exp(i / k)), without overflow
        "inverse_sigmoid": lambda: tf.sigmoid(tf.math.log(k) - i / k),
    }[settings.schedule]()
    return share if settings.schedule == "none" else tf.maximum(share, settings.floor)


def mix_in_predictions(
    model: Seq2Seq, inputs: Mapping[str, tf.Tensor], settings: ScheduledSampling, step: tf.Tensor
) -> dict[str, tf.Tensor]:
    """The inputs with some of the target's tokens, (B, T), replaced by the model's predictions.

    One pass replaces all, by what the model predicts after the reference (Duckworth et al. 2019,
    "Parallel Scheduled Sampling", with one pass): so the whole target still goes through the fused
    layer. The begin marker and padding stay. Which tokens are replaced depends on `step` alone.
    """
    if settings.schedule == "none":
        return dict(inputs)
    target = inputs["target"]
    share = reference_share(settings, step)

    def mix() -> tf.Tensor:
        logits = model.decoder.logits(model.readouts(inputs, training=False))
        predicted = tf.stop_gradient(tf.argmax(logits, -1, output_type=target.dtype))
        # The prediction after position t stands in for token t + 1.
        predicted = tf.concat([target[:, :1], predicted[:, :-1]], 1)
        draw = tf.random.stateless_uniform(tf.shape(target), tf.stack([step, 0]))
        keep = (draw < share) | (target == 0)
        return tf.where(keep, target, predicted)

    return {**inputs, "target": tf.cond(share < 1, mix, lambda: target)}
