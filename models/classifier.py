"""Sequence classifiers: embedding, recurrent encoder, pooling, dense head."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from models.embedding import VocabularySpec, build_embedding
from models.heads import HeadSettings, NgramSpec, Pooling, PoolingState, dense_head
from models.ngrams import LogitMix, NgramLogits, NgramState
from models.recurrent import Encoder, States
from models.seeds import stream
from models.settings import EmbeddingSettings, RecurrentSettings


@keras.saving.register_keras_serializable(package="recurrent", name="Steps")
class TimeMajor(keras.layers.Layer):
    """tokens (B, T), lengths (B,) int32 -> ids (T, B), and which of them are real, (T, B) bool.

    Recurrent loops are time-major: to transpose ids costs less than to transpose their vectors.
    """

    def call(self, tokens: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = tf.range(tf.shape(tokens)[1])
        return tf.transpose(tokens), positions[:, tf.newaxis] < lengths


def build_classifier(
    recurrent: RecurrentSettings,
    embedding: EmbeddingSettings,
    head: HeadSettings,
    vocabulary: VocabularySpec,
    *,
    ngrams: NgramSpec | None = None,
    seed: int,
) -> keras.Model:
    """{"tokens": (B, T) int32, "tokens_length": (B,) int32} -> logits (B, classes) float32.

    With n-grams also "ngrams" (B, G) int32 goes in, and logits are mixed with theirs.

    Every weight and every dropout has its own seed, so that two models that share a part start
    with the same weights there.
    """
    # == Inputs
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    length = keras.Input((), dtype="int32", name="tokens_length")
    ids, mask = TimeMajor(name="steps")(tokens, length)

    # == Body
    embed = build_embedding(embedding, vocabulary, seed=stream(seed, "embedding"))
    encoder = Encoder(recurrent, seed=stream(seed, "encoder"), name="encoder")
    pool = Pooling(
        head.pooling, bidirectional=recurrent.bidirectional, seed=stream(seed, "pool"), name="pool"
    )
    y, _ = encoder(embed(ids, mask), mask=mask, time_major=True)
    x = pool(y, mask)

    # == Head
    for layer in dense_head(head.classes, dropout=head.dropout, seed=stream(seed, "head")):
        x = layer(x)
    inputs = {"tokens": tokens, "tokens_length": length}
    if ngrams is not None:
        inputs["ngrams"] = ids = keras.Input((None,), dtype="int32", name="ngrams")
        wide = NgramLogits(*ngrams, head.classes, name="ngram_logits")
        x = LogitMix(name="mix")([x, wide(ids)])
    return keras.Model(inputs, x, name="classifier")


def recurrent_logits(
    model: keras.Model, inputs: Mapping[str, tf.Tensor], training: bool
) -> tf.Tensor:
    """Logits (B, C) of the recurrent network alone, without the n-grams."""
    return _outputs_of(model, ["logits"], inputs, training)["logits"]


def logits_of_parts(model: keras.Model, inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
    """Logits (B, C) of the recurrent network and, if there is one, of the n-gram classifier."""
    names = [name for name in ("logits", "ngram_logits") if name in _layer_names(model)]
    return list(_outputs_of(model, names, inputs, False).values())


def _outputs_of(
    model: keras.Model, names: Sequence[str], inputs: Mapping[str, tf.Tensor], training: bool
) -> dict[str, tf.Tensor]:
    part = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    found: dict[str, tf.Tensor] = part(
        {name: inputs[name] for name in model.input}, training=training
    )
    return found


def _layer_names(model: keras.Model) -> set[str]:
    return {layer.name for layer in model.layers}


class StreamState(NamedTuple):
    """A classifier's state after some tokens, of constant size; all zeros before the first.

    length (B,) int32, tokens so far; recurrent, states of the encoder's layers; pooled, the
    pooling's; ngrams, that of the n-gram classifier, or () where there is none.
    """

    length: tf.Tensor
    recurrent: States
    pooled: PoolingState
    ngrams: NgramState | tuple[()]


FindNgrams = Callable[[tf.Tensor], tf.Tensor]
"""From the last tokens (B, order) to the ids (B, order) of the n-grams that end with the last."""


def initial_state(model: keras.Model, batch: int) -> StreamState:
    """The state before the first token.

    ValueError for a bidirectional classifier: its backward direction starts at the last token, so
    that each further token changes all states.
    """
    encoder, pool = model.get_layer("encoder"), model.get_layer("pool")
    pooled = pool.initial_state(batch, encoder.output_width)
    wide = "ngram_logits" in _layer_names(model)
    ngrams = model.get_layer("ngram_logits").initial_state(batch) if wide else ()
    return StreamState(tf.zeros([batch], tf.int32), encoder.initial_state(batch), pooled, ngrams)


def step(
    model: keras.Model,
    token: tf.Tensor,
    state: StreamState,
    find_ngrams: FindNgrams | None = None,
) -> tuple[tf.Tensor, StreamState]:
    """One more token (B,) int32, none of them 0, for a classifier that reads forward.

    find_ngrams  needed by a classifier with n-grams.
    Returns the logits (B, classes) that the model gives to the tokens so far, and the state.
    """
    embed, encoder, pool, logits = (
        model.get_layer(name) for name in ("embedding", "encoder", "pool", "logits")
    )
    ids, length = token[:, tf.newaxis], state.length + 1
    x = embed(ids, tf.ones_like(ids, tf.bool))[:, 0]
    y, recurrent = encoder.step(x, state.recurrent)
    vector, pooled = pool.step(y, state.pooled, length)
    total, ngrams = logits(vector), state.ngrams
    if isinstance(ngrams, NgramState) and find_ngrams is not None:
        wide = model.get_layer("ngram_logits")
        ending = find_ngrams(tf.concat([ngrams.recent, ids], 1))
        ngrams = wide.step(token, ending, ngrams)
        total = model.get_layer("mix")([total, wide.to_logits(ngrams.total)])
    return total, StreamState(length, recurrent, pooled, ngrams)


def copy_weights(model: keras.Model, source: keras.Model, *, head: bool) -> None:
    """Copies another classifier's encoder, pooling and, where `head`, output layer into `model`.

    Word vectors are matched by word instead: see build_embedding. ValueError where shapes differ.
    """
    for name in ("encoder", "pool", *(["logits"] if head else [])):
        own, other = model.get_layer(name).weights, source.get_layer(name).weights
        shapes = [[tuple(weight.shape) for weight in weights] for weights in (own, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name} has weights of shapes {shapes[0]} here and {shapes[1]} there")
        for weight, value in zip(own, other, strict=True):
            weight.assign(value)
