"""Sequence classifiers: embedding, recurrent encoder, pooling, dense head."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from models.embedding import Embedding, VocabularySpec, build_embedding
from models.heads import HeadSettings, Pooling, PoolingState, dense_head
from models.ngrams import LogitMix, NgramLogits, NgramSpec, NgramState
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


MEAN = "mean_logits"
"""The layer that averages the logits of several networks."""


class Network(NamedTuple):
    """The layers of one of a classifier's recurrent networks, each with weights of its own."""

    embedding: Embedding
    encoder: Encoder
    pool: Pooling
    logits: keras.layers.Dense


def build_classifier(
    recurrent: RecurrentSettings,
    embedding: EmbeddingSettings,
    head: HeadSettings,
    vocabulary: VocabularySpec,
    *,
    ensemble: int = 1,
    ngrams: NgramSpec | None = None,
    seed: int,
) -> keras.Model:
    """{"tokens": (B, T) int32, "tokens_length": (B,) int32} -> logits (B, classes) float32.

    ensemble  recurrent networks, whose logits are averaged.
    ngrams    if there are any, "ngrams" (B, G) int32 goes in too, and logits are mixed with theirs.

    Every weight and every dropout has its own seed, so that two models that share a part start
    with the same weights there.
    """
    # == Inputs
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    length = keras.Input((), dtype="int32", name="tokens_length")
    inputs = {"tokens": tokens, "tokens_length": length}
    ids, mask = TimeMajor(name="steps")(tokens, length)

    # == Recurrent networks
    logits = []
    for number in range(1, ensemble + 1):
        own = seed if number == 1 else stream(seed, f"network_{number}")
        suffix = _suffix(number)
        embed = build_embedding(
            embedding, vocabulary, seed=stream(own, "embedding"), name=f"embedding{suffix}"
        )
        encoder = Encoder(recurrent, seed=stream(own, "encoder"), name=f"encoder{suffix}")
        pool = Pooling(
            head.pooling,
            bidirectional=recurrent.bidirectional,
            seed=stream(own, "pool"),
            name=f"pool{suffix}",
        )
        y, _ = encoder(embed(ids, mask), mask=mask, time_major=True)
        x = pool(y, mask)
        for layer in dense_head(
            head.classes, dropout=head.dropout, seed=stream(own, "head"), suffix=suffix
        ):
            x = layer(x)
        logits.append(x)
    x = keras.layers.Average(name=MEAN, dtype="float32")(logits) if ensemble > 1 else logits[0]

    # == N-grams
    if ngrams is not None:
        inputs["ngrams"] = ngram_ids = keras.Input((None,), dtype="int32", name="ngrams")
        wide = NgramLogits(*ngrams, head.classes, name="ngram_logits")
        x = LogitMix(name="mix")([x, wide(ngram_ids)])
    return keras.Model(inputs, x, name="classifier")


def _suffix(number: int) -> str:
    """What the names of a network's layers end with; that of the first has its plain names."""
    return "" if number == 1 else f"_{number}"


def networks_of(model: keras.Model) -> list[Network]:
    """A classifier's recurrent networks, one at least."""
    names = _layer_names(model)
    found: list[Network] = []
    while f"encoder{_suffix(len(found) + 1)}" in names:
        suffix = _suffix(len(found) + 1)
        found.append(Network(*(model.get_layer(f"{part}{suffix}") for part in Network._fields)))
    return found


def logits_of_networks(
    model: keras.Model, inputs: Mapping[str, tf.Tensor], training: bool
) -> list[tf.Tensor]:
    """Logits (B, C) of each recurrent network, without the n-grams."""
    names = [network.logits.name for network in networks_of(model)]
    return list(_outputs_of(model, names, inputs, training).values())


def logits_of_parts(model: keras.Model, inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
    """Logits (B, C) of the recurrent networks and, if there is one, of the n-gram classifier."""
    there = _layer_names(model)
    names = [MEAN if MEAN in there else "logits"]
    if "ngram_logits" in there:
        names.append("ngram_logits")
    return list(_outputs_of(model, names, inputs, False).values())


def _outputs_of(
    model: keras.Model, names: Sequence[str], inputs: Mapping[str, tf.Tensor], training: bool
) -> dict[str, tf.Tensor]:
    part = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    found: dict[str, tf.Tensor] = part(
        {name: inputs[name] for name in model.input}, training=training
    )
    return {name: found[name] for name in names}


def _layer_names(model: keras.Model) -> set[str]:
    return {layer.name for layer in model.layers}


class StreamState(NamedTuple):
    """A classifier's state after some tokens, of constant size; all zeros before the first.

    length (B,) int32, tokens so far; of each network: recurrent, the states of the encoder's
    layers, and pooled, the pooling's; ngrams, that of the n-gram classifier, or () where there is
    none.
    """

    length: tf.Tensor
    recurrent: tuple[States, ...]
    pooled: tuple[PoolingState, ...]
    ngrams: NgramState | tuple[()]


FindNgrams = Callable[[tf.Tensor], tf.Tensor]
"""From the last tokens (B, order) to the ids (B, order) of the n-grams that end with the last."""


def initial_state(model: keras.Model, batch: int) -> StreamState:
    """The state before the first token.

    ValueError for a bidirectional classifier: its backward direction starts at the last token, so
    that each further token changes all states.
    """
    networks = networks_of(model)
    wide = "ngram_logits" in _layer_names(model)
    return StreamState(
        tf.zeros([batch], tf.int32),
        tuple(network.encoder.initial_state(batch) for network in networks),
        tuple(
            network.pool.initial_state(batch, network.encoder.output_width) for network in networks
        ),
        model.get_layer("ngram_logits").initial_state(batch) if wide else (),
    )


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
    ids, length = token[:, tf.newaxis], state.length + 1
    logits, recurrent, pooled = [], [], []
    before = zip(networks_of(model), state.recurrent, state.pooled, strict=True)
    for network, states_before, pool_before in before:
        x = network.embedding(ids, tf.ones_like(ids, tf.bool))[:, 0]
        y, states = network.encoder.step(x, states_before)
        vector, pool = network.pool.step(y, pool_before, length)
        logits.append(network.logits(vector))
        recurrent.append(states)
        pooled.append(pool)
    total, ngrams = tf.add_n(logits) / len(logits), state.ngrams
    if isinstance(ngrams, NgramState) and find_ngrams is not None:
        wide = model.get_layer("ngram_logits")
        ending = find_ngrams(tf.concat([ngrams.recent, ids], 1))
        ngrams = wide.step(token, ending, ngrams)
        total = model.get_layer("mix")([total, wide.to_logits(ngrams.total)])
    return total, StreamState(length, tuple(recurrent), tuple(pooled), ngrams)


def copy_weights(model: keras.Model, source: keras.Model, *, head: bool) -> None:
    """Copies another classifier's encoder, pooling and, where `head`, output layer into `model`.

    Of an ensemble each network is that of its number there; where there are fewer, they are taken
    in turns. Word vectors are matched by word instead: see build_embedding. ValueError where shapes
    differ.
    """
    sources = networks_of(source)
    for number, network in enumerate(networks_of(model)):
        other = sources[number % len(sources)]
        for name in ("encoder", "pool", *(["logits"] if head else [])):
            own, theirs = (getattr(one, name).weights for one in (network, other))
            shapes = [[tuple(weight.shape) for weight in weights] for weights in (own, theirs)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"{name} has weights of shapes {shapes[0]} here and {shapes[1]} there"
                )
            for weight, value in zip(own, theirs, strict=True):
                weight.assign(value)
