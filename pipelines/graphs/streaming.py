"""Reading token by token, in constant memory: a client keeps a state between two calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from pipelines.core.task import ExportedFunction, Signature
from pipelines.core.types import Nest, Tensors
from pipelines.graphs.tracing import flatten_nest, pack_nest

if TYPE_CHECKING:
    from models.tagger import Tagger

Step = Callable[[Tensors, Nest], tuple[dict[str, tf.Tensor], Nest]]
"""Graph code: a token by the names of its parts, and a state -> predictions, and the new state."""

TOKEN = {"token": tf.TensorSpec([None], tf.int32, name="token")}
"""A token that is an id (B,)."""


def stream_signature(
    unread: Nest, step: Step, token: Mapping[str, tf.TensorSpec] = TOKEN
) -> Signature:
    """The signature of a step: a token and a state -> predictions so far, and the new state.

    unread  the state before the first token, of a batch of 1. It is all zeros, so that a client
            begins with zeros of the shapes that the signature shows, and needs no call for it.
    token   what a token is made of, by name, each (B, ...).

    Inputs are the token's and state_*, (B, ...); outputs are the predictions and state_*.
    Whatever the compute type, states are float32 outside, which every client knows.
    """

    def run(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        given = {name: tensors.pop(name) for name in token}
        float_state = pack_nest("state", unread, tensors)
        state = tf.nest.map_structure(lambda x, like: tf.cast(x, like.dtype), float_state, unread)
        predictions, state = step(given, state)
        return {**predictions, **flatten_nest("state", tf.nest.map_structure(_to_float32, state))}

    specs = dict(token)
    for name, leaf in flatten_nest("state", tf.nest.map_structure(_to_float32, unread)).items():
        specs[name] = tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype, name=name)
    return Signature(run, specs)


def second_token_inputs(stream: Signature, token: Tensors) -> dict[str, tf.Tensor]:
    """Inputs of `stream` to test it: the token (1, ...) again, in the state after it."""
    begin = {
        name: tf.zeros([1, *spec.shape[1:]], spec.dtype)
        for name, spec in stream.inputs.items()
        if name not in token
    }
    after = stream.run(**token, **begin)
    return {name: after[name] for name in begin} | dict(token)


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
        token: Tensors, state: classifier.StreamState
    ) -> tuple[dict[str, tf.Tensor], classifier.StreamState]:
        logits, state = classifier.step(model, token["token"], state, find_ngrams)
        return {"probabilities": tf.nn.softmax(logits)}, state

    stream = stream_signature(classifier.initial_state(model, 1), step)
    return ExportedFunction(
        *stream, lambda batch: second_token_inputs(stream, {"token": batch["tokens"][:, 0]})
    )


def stream_tags(model: Tagger, characters: int) -> ExportedFunction | None:
    """A tagger's tag of a word, given it and all before it; None for a bidirectional one.

    It is the last tag of the best path so far: with words that follow, an earlier one may be told
    otherwise. characters: of a word's spelling.
    """
    from models import tagger

    if model.encoder.settings.bidirectional:
        return None

    def step(
        token: Tensors, state: tagger.StreamState
    ) -> tuple[dict[str, tf.Tensor], tagger.StreamState]:
        tag, state = tagger.step(model, token["token"], token["spelling"], state)
        return {"number": tag + 1}, state

    spelling = tf.TensorSpec([None, characters], tf.int32, name="spelling")
    word = {**TOKEN, "spelling": spelling}
    stream = stream_signature(tagger.initial_state(model, 1), step, word)

    def second(batch: Tensors) -> dict[str, tf.Tensor]:
        token = {"token": batch["words"][:, 0], "spelling": batch["spelling"][:, 0]}
        return second_token_inputs(stream, token)

    return ExportedFunction(*stream, second)
