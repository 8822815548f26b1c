"""Reading token by token, in constant memory: a client keeps a state between two calls."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from pipelines.core.task import ExportedFunction, Signature
from pipelines.core.types import Nest
from pipelines.graphs.tracing import flatten_nest, pack_nest

Step = Callable[[tf.Tensor, Nest], tuple[dict[str, tf.Tensor], Nest]]
"""Graph code: token (B,) int32 and a state -> predictions by name, and the new state."""


def stream_signature(unread: Nest, step: Step) -> Signature:
    """The signature of a step: a token and a state -> predictions so far, and the new state.

    unread  the state before the first token, of a batch of 1. It is all zeros, so that a client
            begins with zeros of the shapes that the signature shows, and needs no call for it.

    Inputs are token (B,) int32 and state_*, (B, ...); outputs are the predictions and state_*.
    Whatever the compute type, states are float32 outside, which every client knows.
    """

    def run(token: tf.Tensor, **tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        float_state = pack_nest("state", unread, tensors)
        state = tf.nest.map_structure(lambda x, like: tf.cast(x, like.dtype), float_state, unread)
        predictions, state = step(token, state)
        return {**predictions, **flatten_nest("state", tf.nest.map_structure(_to_float32, state))}

    specs = {"token": tf.TensorSpec([None], tf.int32, name="token")}
    for name, leaf in flatten_nest("state", tf.nest.map_structure(_to_float32, unread)).items():
        specs[name] = tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype, name=name)
    return Signature(run, specs)


def second_token_inputs(stream: Signature, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
    """Inputs of `stream` to test it: the first of tokens (1, T) again, in the state after it."""
    token = tokens[:, 0]
    begin = {
        name: tf.zeros([1, *spec.shape[1:]], spec.dtype)
        for name, spec in stream.inputs.items()
        if name != "token"
    }
    return {**stream.run(token=token, **begin), "token": token}


def _to_float32(leaf: tf.Tensor) -> tf.Tensor:
    return tf.cast(leaf, tf.float32) if leaf.dtype.is_floating else leaf


def stream_tokens(
    model: keras.Model, find_ngrams: Callable[[tf.Tensor], tf.Tensor] | None = None
) -> ExportedFunction | None:
    """A classifier's probabilities after one token more; None for a bidirectional one.

    A backward direction starts at the last token: with each further one it would read all anew.
    find_ngrams: see models.classifier.step.
    """
    from models import classifier

    if classifier.networks_of(model)[0].encoder.settings.bidirectional:
        return None

    def step(
        token: tf.Tensor, state: classifier.StreamState
    ) -> tuple[dict[str, tf.Tensor], classifier.StreamState]:
        logits, state = classifier.step(model, token, state, find_ngrams)
        return {"probabilities": tf.nn.softmax(logits)}, state

    stream = stream_signature(classifier.initial_state(model, 1), step)
    return ExportedFunction(*stream, lambda batch: second_token_inputs(stream, batch["tokens"]))
