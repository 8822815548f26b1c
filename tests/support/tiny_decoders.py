"""Settings of small models that write tokens, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from models.cross_entropy import token_losses
from models.settings import DecoderSettings, EmbeddingSettings, RecurrentSettings

RECURRENT = RecurrentSettings(
    cell="gru",
    bidirectional=False,
    width=6,
    layers=2,
    residual=True,
    activation="tanh",
    dropout=0.0,
    recurrent_dropout=0.0,
)
EMBEDDING = EmbeddingSettings(
    width=5, scale=0.3, vectors=None, trainable=True, word_dropout=0.0, dropout=0.0
)
DECODER = DecoderSettings(
    width=None, attention="general", input_feeding=False, readout=None, tied=False, dropout=0.0
)
CELLS_AND_DIRECTIONS = list(product(["simple_rnn", "lstm", "gru"], [False, True]))


def check_every_weight_learns(model: Any, inputs: Mapping[str, tf.Tensor]) -> None:
    """Every trainable variable of the model has a gradient other than 0 for the inputs' target."""
    with tf.GradientTape() as tape:
        readouts = model.readouts(inputs, training=True)
        losses = token_losses(readouts, model.decoder.output_weights(), inputs["target"])
        loss = tf.reduce_sum(losses)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    unchanged = [
        variable.path
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        if gradient is None or not np.any(tf.convert_to_tensor(gradient))
    ]
    assert unchanged == []
    assert np.isfinite(loss)
