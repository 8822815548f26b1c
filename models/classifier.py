"""Sequence classifiers: embedding, recurrent encoder, pooling, dense head."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.embedding import build_embedding
from models.heads import Pooled, Pooling, dense_head
from models.recurrent import Encoder, States
from models.seeds import stream
from models.settings import EmbeddingSettings, RecurrentSettings


@keras.saving.register_keras_serializable(package="recurrent")
class Steps(keras.layers.Layer):
    """tokens (B, T), lengths (B,) int32 -> ids (T, B), and which of them are real, (T, B) bool.

    Loops go from step to step: turning ids round costs less than turning their vectors.
    """

    def call(self, tokens: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        steps = tf.range(tf.shape(tokens)[1])
        return tf.transpose(tokens), steps[:, tf.newaxis] < lengths


def build_classifier(
    *,
    recurrent: RecurrentSettings,
    embedding: EmbeddingSettings,
    pooling: str,
    vocabulary_size: int,
    classes: int,
    head_dropout: float,
    seed: int,
    vectors: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> keras.Model:
    """{"tokens": (B, T) int32, "tokens_length": (B,) int32} -> logits (B, classes) float32.

    vectors (V, D), known (V,): given word vectors, see build_embedding. Every weight and every
    dropout has its own seed, so that two models that share a part start it alike.
    """
    # == Inputs
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    length = keras.Input((), dtype="int32", name="tokens_length")
    ids, mask = Steps(name="steps")(tokens, length)

    # == Body
    embed = build_embedding(
        embedding, vocabulary_size, seed=stream(seed, "embedding"), vectors=vectors, known=known
    )
    encoder = Encoder(recurrent, seed=stream(seed, "encoder"), name="encoder")
    pool = Pooling(
        pooling, bidirectional=recurrent.bidirectional, seed=stream(seed, "pool"), name="pool"
    )
    y, _ = encoder(embed(ids, mask), mask=mask, time_major=True)
    x = pool(y, mask)

    # == Head
    for layer in dense_head(classes, dropout=head_dropout, seed=stream(seed, "head")):
        x = layer(x)
    return keras.Model({"tokens": tokens, "tokens_length": length}, x, name="classifier")


class Read(NamedTuple):
    """What is left of the tokens read so far, however many; all zeros before the first.

    count (B,) int32, how many; recurrent, states of the encoder's layers; pooled, the pooling's.
    """

    count: tf.Tensor
    recurrent: States
    pooled: Pooled


def unread(model: keras.Model, batch: int) -> Read:
    """Before the first token. ValueError for a bidirectional classifier: its backward direction
    starts at the last token, so that each further one changes all that was read.
    """
    encoder, pool = model.get_layer("encoder"), model.get_layer("pool")
    pooled = pool.unread(batch, encoder.output_width)
    return Read(tf.zeros([batch], tf.int32), encoder.unread(batch), pooled)


def read_token(model: keras.Model, token: tf.Tensor, read: Read) -> tuple[tf.Tensor, Read]:
    """One token more of a classifier that reads forward: token (B,) int32 ids, none of them 0.

    Returns the logits (B, classes) that the model gives to the tokens so far.
    """
    embed, encoder, pool, logits = (
        model.get_layer(name) for name in ("embedding", "encoder", "pool", "logits")
    )
    ids, count = token[:, tf.newaxis], read.count + 1
    x = embed(ids, tf.ones_like(ids, tf.bool))[:, 0]
    y, recurrent = encoder.step(x, read.recurrent)
    pooled, kept = pool.step(y, read.pooled, count)
    return logits(pooled), Read(count, recurrent, kept)


def start_from(model: keras.Model, other: keras.Model, *, head: bool) -> None:
    """Gives a classifier another one's encoder, pooling and, where `head`, output layer.

    Their word vectors go by word: see build_classifier. ValueError where the two differ in shape.
    """
    for name in ("encoder", "pool", *(["logits"] if head else [])):
        own, given = model.get_layer(name).weights, other.get_layer(name).weights
        shapes = [[tuple(weight.shape) for weight in weights] for weights in (own, given)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name} has weights of shapes {shapes[0]} here and {shapes[1]} there")
        for weight, value in zip(own, given, strict=True):
            weight.assign(value)
