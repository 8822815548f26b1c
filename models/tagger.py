"""A tag for every word: words and their letters, a recurrent encoder, and a chain of tags.

Huang, Xu & Yu 2015, "Bidirectional LSTM-CRF Models for Sequence Tagging"; Lample et al. 2016; Ma &
Hovy 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models import crf
from models.dropout import Dropout
from models.embedding import Embedding
from models.recurrent import Encoder, States
from models.seeds import stream
from models.serialization import FromConfig
from models.settings import RecurrentSettings, SpellingSettings
from models.spelling import Spelling

_register = keras.saving.register_keras_serializable(package="recurrent")


class AllowedTags(NamedTuple):
    """Which of K tags may begin a sequence (K,), follow each other (K, K), and end it (K,): 0 or 1.

    transitions  from row to column.
    """

    start: tuple[int, ...]
    transitions: tuple[tuple[int, ...], ...]
    end: tuple[int, ...]

    @classmethod
    def everything(cls, size: int) -> AllowedTags:
        ones = (1,) * size
        return cls(ones, (ones,) * size, ones)


@_register
class TagChain(keras.layers.Layer):
    """What a tag says of its neighbours: what was learnt (a CRF), or only what a scheme forbids.

    learns_transitions  whether this is a CRF; otherwise tags are independent where allowed.
    allowed  as AllowedTags.
    """

    def __init__(self, learns_transitions: bool, allowed: AllowedTags, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.learns_transitions, self.allowed = learns_transitions, AllowedTags(*allowed)

    def build(self, input_shape: object = None) -> None:
        del input_shape
        size = len(self.allowed.start)
        if self.learns_transitions:
            self.start = self.add_weight((size,), "zeros", name="start")
            self.transitions = self.add_weight((size, size), "zeros", name="transitions")
            self.end = self.add_weight((size,), "zeros", name="end")
        self.built = True

    @property
    def potentials(self) -> crf.Potentials:
        parts = []
        for name, allowed in self.allowed._asdict().items():
            mask = np.array(allowed, np.float32)
            value = tf.convert_to_tensor(getattr(self, name)) if self.learns_transitions else 0.0
            parts.append(tf.where(mask > 0, value, crf.FORBIDDEN))
        return crf.Potentials(*parts)

    def get_config(self) -> dict[str, object]:
        return {
            **super().get_config(),
            "learns_transitions": self.learns_transitions,
            "allowed": list(self.allowed),
        }


@_register
class Tagger(FromConfig, keras.Model):
    """Words (B, T) and their characters (B, T, C) -> scores of tags.

    embedding   of words; made by the caller, who may have pretrained vectors for it.
    characters  size of their vocabulary.
    dropout     of the encoder's inputs and of its outputs.
    learns_transitions, allowed  as TagChain.
    """

    config_types: ClassVar[Mapping[str, type]] = {
        "recurrent": RecurrentSettings,
        "embedding": keras.layers.Layer,
        "spelling": SpellingSettings,
    }

    def __init__(
        self,
        recurrent: RecurrentSettings,
        embedding: Embedding,
        spelling: SpellingSettings,
        *,
        characters: int,
        dropout: float,
        learns_transitions: bool,
        allowed: AllowedTags,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.recurrent, self.spelling_settings = recurrent, spelling
        self.characters, self.dropout, self.seed = characters, dropout, seed
        policy = self.dtype_policy
        self.embedding = embedding
        if not embedding.built:  # read from a file
            embedding.build(None)
        self.spelling = Spelling(
            spelling, recurrent, characters, seed=stream(seed, "spelling"), name="spelling"
        )
        self.drop_in, self.drop_out = (
            Dropout(dropout, seed=stream(seed, name), name=name) for name in ("drop_in", "drop_out")
        )
        self.encoder = Encoder(
            recurrent, seed=stream(seed, "encoder"), dtype=policy, name="encoder"
        )
        initial = keras.initializers.GlorotUniform(stream(seed, "scores"))
        self.dense = keras.layers.Dense(
            len(allowed[0]), kernel_initializer=initial, dtype="float32", name="scores"
        )
        self.chain = TagChain(learns_transitions, allowed, name="chain", dtype="float32")
        self.spelling.build()
        self.encoder.build((None, None, self.embedding.width + self.spelling.output_width))
        self.dense.build((None, None, self.encoder.output_width))
        self.chain.build()
        self.built = True

    def scores(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """(T, B, K) float32, time-major, of words (B, T), words_length (B,), spelling (B, T, C)."""
        words, mask = self._time_major(inputs)
        x = self._read(words, mask, tf.transpose(inputs["spelling"], [1, 0, 2]), training)
        y, _ = self.encoder(x, mask=mask, training=training, time_major=True)
        return self.dense(self.drop_out(y, training=training))

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """The same, (B, T, K)."""
        return tf.transpose(self.scores(inputs, training), [1, 0, 2])

    def score_word(
        self, word: tf.Tensor, spelling: tf.Tensor, states: States
    ) -> tuple[tf.Tensor, States]:
        """One more word (B,), (B, C) of a model that reads forward: scores (B, K), states."""
        real = tf.ones([1, tf.shape(word)[0]], tf.bool)
        x = self._read(word[tf.newaxis], real, spelling[tf.newaxis], False)[0]
        y, states = self.encoder.step(x, states)
        return self.dense(y), states

    def _time_major(self, inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        words = tf.transpose(inputs["words"])
        real = tf.sequence_mask(inputs["words_length"], tf.shape(words)[0])
        return words, tf.transpose(real)

    def _read(
        self, words: tf.Tensor, mask: tf.Tensor, spelling: tf.Tensor, training: bool | None
    ) -> tf.Tensor:
        """(T, B) and (T, B, C) -> the encoder's inputs (T, B, D)."""
        parts = [self.embedding(words, mask, training=training)]
        if self.spelling.output_width:
            letters = self.spelling(spelling, training=training)
            parts.append(letters * tf.cast(mask, letters.dtype)[..., tf.newaxis])
        return self.drop_in(tf.concat(parts, -1), training=training)

    def get_config(self) -> dict[str, object]:
        return {
            **super().get_config(),
            "recurrent": asdict(self.recurrent),
            "embedding": keras.saving.serialize_keras_object(self.embedding),
            "spelling": asdict(self.spelling_settings),
            "characters": self.characters,
            "dropout": self.dropout,
            "learns_transitions": self.chain.learns_transitions,
            "allowed": list(self.chain.allowed),
            "seed": self.seed,
        }


def tag_losses(
    scores: tf.Tensor,
    tags: tf.Tensor,
    lengths: tf.Tensor,
    potentials: crf.Potentials | None = None,
) -> tf.Tensor:
    """Nats of each position's tag: scores (T, B, K), tags (B, T) int32 -> (B, T), 0 on padding.

    With a CRF's potentials the negative log-likelihood of a whole sequence is spread evenly over
    its positions, so that losses are per word with and without one. Tags may be anything beyond
    the lengths; a tag below 0, which is unknown, counts as 0.
    """
    real = tf.sequence_mask(lengths, tf.shape(scores)[0], tf.float32)
    tags = tf.maximum(tags, 0)
    if potentials is None:
        logits = tf.transpose(scores, [1, 0, 2])
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tags, logits) * real
    potentials = crf.Potentials(*potentials)
    own = crf.path_score(scores, tf.transpose(tags), lengths, potentials)
    nats = crf.log_partition(scores, lengths, potentials) - own
    return (nats / tf.cast(lengths, tf.float32))[:, tf.newaxis] * real


class StreamState(NamedTuple):
    """A tagger's state after some words; all zeros before the first.

    length     (B,) int32, words so far.
    recurrent  the states of the encoder's layers.
    best       (B, K) float32: for each tag the score of the best path that ends with it, less that
               of the best of all.
    """

    length: tf.Tensor
    recurrent: States
    best: tf.Tensor


def initial_state(model: Tagger, batch: int) -> StreamState:
    """The state before the first word; ValueError for a bidirectional tagger."""
    size = len(model.chain.allowed.start)
    return StreamState(
        tf.zeros([batch], tf.int32), model.encoder.initial_state(batch), tf.zeros([batch, size])
    )


def step(
    model: Tagger, word: tf.Tensor, spelling: tf.Tensor, state: StreamState
) -> tuple[tf.Tensor, StreamState]:
    """One more word (B,), (B, C) int32: its tag (B,) int32, the last of the best path so far."""
    scores, recurrent = model.score_word(word, spelling, state.recurrent)
    start, transitions, end = model.chain.potentials
    reached = tf.reduce_max(state.best[:, :, tf.newaxis] + transitions, 1)
    first = (state.length == 0)[:, tf.newaxis]
    best = tf.where(first, start, reached) + scores
    tag = tf.argmax(best + end, -1, output_type=tf.int32)
    best -= tf.reduce_max(best, -1, keepdims=True)
    return tag, StreamState(state.length + 1, recurrent, best)


class TagAnswer(NamedTuple):
    """The best tags (B, T) int32, 0 behind the end, and the probability (B, T) of each.

    The probability is given all of the sequence, and given that the sequence is allowed.
    time_major: the same tags (T, B), and the marginals that the probabilities are of.
    """

    tags: tf.Tensor
    probability: tf.Tensor
    time_major: tuple[tf.Tensor, crf.Marginals]


def answer_tags(model: Tagger, inputs: Mapping[str, tf.Tensor]) -> TagAnswer:
    """What the model answers to inputs as those of `Tagger.scores`."""
    scores, lengths = model.scores(inputs), inputs["words_length"]
    potentials = model.chain.potentials
    tags, _ = crf.best_path(scores, lengths, potentials)
    marginals = crf.marginals(scores, lengths, potentials)
    probability = tf.gather(marginals.tags, tags, batch_dims=2)
    return TagAnswer(tf.transpose(tags), tf.transpose(probability), (tags, marginals))


def entity_probabilities(answer: TagAnswer, begins: np.ndarray, continues: np.ndarray) -> tf.Tensor:
    """(B, T): where an answered entity begins, the probability of all of it; elsewhere 0.

    begins (K,) bool, tags that begin an entity; continues (K, K) bool, which tag (column) goes on
    an entity after which (row). The probability is that of its tags and of ending where it does:
    in a chain a tag depends on its neighbours alone, so that it is a product along the path.
    """
    path, marginals = answer.time_major
    own = tf.gather(marginals.tags, path, batch_dims=2)
    tiny = tf.constant(1e-30)
    goes_on = tf.gather_nd(tf.constant(continues), tf.stack([path[:-1], path[1:]], -1))
    goes_on &= own[1:] > 0  # not beyond the end
    steps = tf.math.log(marginals.along(path) / tf.maximum(own[:-1], tiny) + tiny)
    # Nothing beyond the last position goes on.
    further = marginals.into(path, tf.constant(continues)) / tf.maximum(own[:-1], tiny)
    ending = tf.pad(tf.math.log(tf.maximum(1 - further, tiny)), [[0, 1], [0, 0]])
    goes_on = tf.pad(goes_on, [[0, 1], [0, 0]])
    along = tf.pad(tf.cumsum(steps), [[1, 0], [0, 0]])
    starts = tf.transpose(tf.gather(tf.constant(begins), path) & (own > 0))
    inside = tf.concat([tf.zeros_like(goes_on[:1]), goes_on[:-1]], 0)
    ends = (tf.transpose(inside) | starts) & tf.logical_not(tf.transpose(goes_on))
    # Each entity that begins ends, in the same order.
    places = tf.where(starts)
    last = tf.boolean_mask(tf.transpose(along + ending), ends)
    first = tf.boolean_mask(tf.transpose(along - tf.math.log(tf.maximum(own, tiny))), starts)
    return tf.scatter_nd(places, tf.exp(last - first), tf.shape(starts, tf.int64))
