"""Ways to cut a text into tokens, one class each; TextCodec chooses one by its settings.

A tokenizer works in three steps, all graph code: `split` finds the tokens of a batch of texts,
`to_ids` and `to_text` turn these into ids or into text. In between, a token has the form that is
cheapest for its tokenizer: a word (bytes), a Unicode code point (int32), or a SentencePiece id.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from pipelines.core.contracts import FieldSpec
from pipelines.core.types import JsonObject, RawColumn, Value
from pipelines.data.codecs import tokens
from pipelines.data.codecs.counting import Counts, Lengths
from pipelines.data.codecs.key_search import find_ids
from pipelines.data.codecs.special_ids import UNKNOWN
from pipelines.data.codecs.text_settings import TextSettings
from pipelines.runs.parallel import map_in_order

if TYPE_CHECKING:
    import tensorflow as tf

Batches = Iterable[Sequence[Value]]
"""Raw values of a column, batch by batch."""


def raw_texts(raw: FieldSpec) -> tf.TensorSpec | tf.RaggedTensorSpec:
    """What graph code gets of a batch of texts (B,), or of lists of words (B, T)."""
    import tensorflow as tf

    if raw.is_sequence:
        return tf.RaggedTensorSpec([None, None], tf.string)
    return tf.TensorSpec([None], tf.string)


class TokenizerState(NamedTuple):
    """The result of a tokenizer's learning.

    vocabulary  tokens by id, without the special ones.
    facts       for the report: shares of unknown and truncated tokens, lengths.
    model       SentencePiece's; empty for the other tokenizers.
    """

    vocabulary: list[str]
    facts: JsonObject
    model: bytes = b""


class Tokenizer(ABC):
    """Texts to tokens, tokens to ids, and tokens back to text.

    settings  how to normalise and split; how large the vocabulary may be.
    first_id  the id of the first token: there are as many special ids, which come before it.
    state     what `learn` returned; without it only `learn` and `split` work, and of these `split`
              only where the tokenizer splits by fixed rules.
    """

    raw: ClassVar[FieldSpec] = FieldSpec((), "string")
    """What a raw value is: a text, unless a subclass says otherwise."""
    operators: ClassVar[tuple[str, ...]] = ()
    """Modules to import where a SavedModel with this tokenizer is loaded."""

    def __init__(self, settings: TextSettings, first_id: int, state: TokenizerState | None = None):
        self.settings = settings
        self.first_id = first_id
        self._state = state

    @property
    def state(self) -> TokenizerState:
        """The state after learning; ValueError before that."""
        if self._state is None:
            raise ValueError("the vocabulary must be learnt or restored first: call fit or load")
        return self._state

    @property
    def resources(self) -> list[object]:
        """TensorFlow objects that a SavedModel has to track."""
        return []

    @abstractmethod
    def learn(self, batches: Batches, column: str, vectors: str | None) -> TokenizerState:
        """Learns the vocabulary from training texts.

        column   named in messages.
        vectors  as in `vectors_for`: words that have a vector fill up the vocabulary.
        """

    def check_state(self) -> None:
        """Raises ValueError unless the state is one that `learn` can have returned."""
        if self.state.model:
            raise ValueError("only sentencepiece has a model")

    def as_tensor(self, values: Sequence[Value]) -> tf.Tensor | tf.RaggedTensor:
        """Raw values in the form that `split` takes."""
        import tensorflow as tf

        return tf.constant(values, tf.string, shape=[len(values)])

    @abstractmethod
    def split(self, values: RawColumn) -> tf.RaggedTensor:
        """(B,) texts, or what `raw` says, to (B, T) tokens; a row may be empty."""

    @abstractmethod
    def to_ids(self, flat: tf.Tensor) -> tf.Tensor:
        """(N,) tokens from `split` to (N,) int32 ids."""

    @abstractmethod
    def to_text(self, flat: tf.Tensor) -> tf.Tensor:
        """(N,) tokens from `split` to (N,) text."""

    @abstractmethod
    def join(self, pieces: tf.Tensor) -> tf.Tensor:
        """(B, T) tokens as text, "" where there is none, to (B,) text as people write it."""

    def normalise(self, values: tf.Tensor) -> tf.Tensor:
        """(B,) bytes to (B,) valid UTF-8, without markup and in lower case where set so."""
        return tokens.normalise(
            values, lowercase=self.settings.lowercase, strip_markup=self.settings.strip_markup
        )

    @property
    def keeps_punctuation(self) -> bool:
        return self.settings.punctuation == "keep"


class _CountingTokenizer(Tokenizer):
    """Splits by fixed rules and keeps the most frequent tokens as the vocabulary.

    Ids are found by binary search in a sorted array of keys, numbers that stand for tokens. This
    takes core operations only and no table, so a SavedModel has nothing to track.
    """

    def learn(self, batches: Batches, column: str, vectors: str | None) -> TokenizerState:
        counts = Counts(Lengths(self.settings.max_tokens))
        counts.add(map_in_order(self._numpy_split(), batches))
        vocabulary, unknown = counts.most_frequent(self._most, self.settings.minimum_count)
        return TokenizerState(vocabulary, {"unknown_share": unknown, **counts.lengths.summary()})

    @property
    def _most(self) -> int:
        return self.settings.vocabulary_size - self.first_id

    def _numpy_split(self) -> Callable[[Sequence[Value]], tuple[np.ndarray, np.ndarray]]:
        """`split` on raw values, to tokens laid end to end and the number of each text's."""
        import tensorflow as tf

        @tf.function(input_signature=[raw_texts(self.raw)], autograph=False)
        def split(values: RawColumn) -> tuple[tf.Tensor, tf.Tensor]:
            ragged = self.split(values)
            return ragged.flat_values, ragged.row_lengths()

        def run(values: Sequence[Value]) -> tuple[np.ndarray, np.ndarray]:
            flat, lengths = split(self.as_tensor(values))
            return flat.numpy(), lengths.numpy()

        return run

    def to_ids(self, flat: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        keys, ids = (tf.constant(part) for part in self._sorted_keys)
        return find_ids(self._keys(flat), keys, ids, missing=UNKNOWN)

    @cached_property
    def _sorted_keys(self) -> tuple[np.ndarray, np.ndarray]:
        """The vocabulary's keys in ascending order, and the id of each."""
        keys = self._vocabulary_keys()
        order = np.argsort(keys)
        return keys[order], (order + self.first_id).astype(np.int32)

    @abstractmethod
    def _keys(self, flat: tf.Tensor) -> tf.Tensor:
        """(N,) tokens from `split` to (N,) integers."""

    @abstractmethod
    def _vocabulary_keys(self) -> np.ndarray:
        """The integers of the vocabulary's tokens, in its order."""


class WordTokenizer(_CountingTokenizer):
    """Words and punctuation marks, by the rules in tokens.py.

    A word's key is its 64-bit hash (FarmHash, the same in every version): with 100,000 words in
    the vocabulary, a word outside it is mistaken for one of them once in 10^14 times.
    """

    def learn(self, batches: Batches, column: str, vectors: str | None) -> TokenizerState:
        learned = super().learn(batches, column, vectors)
        if vectors is None:
            return learned
        from pipelines.data.codecs.word_vectors import words_with_vectors

        known = set(learned.vocabulary)
        further = (word for word in words_with_vectors(vectors) if word not in known)
        added = list(islice(further, self._most - len(known)))
        return learned._replace(
            vocabulary=[*learned.vocabulary, *added],
            facts={**learned.facts, "words_from_vectors": len(added)},
        )

    def split(self, values: tf.Tensor) -> tf.RaggedTensor:
        return tokens.words(self.normalise(values), punctuation=self.keeps_punctuation)

    def to_text(self, flat: tf.Tensor) -> tf.Tensor:
        return flat

    def join(self, pieces: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tokens.join(tf.ragged.boolean_mask(pieces, pieces != ""))

    def _keys(self, flat: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.strings.to_hash_bucket_fast(flat, 2**63 - 1)

    def _vocabulary_keys(self) -> np.ndarray:
        import tensorflow as tf

        with tf.init_scope():
            return self._keys(tf.constant(self.state.vocabulary)).numpy()


class WordListTokenizer(WordTokenizer):
    """Words that the data has split already: raw values are lists of words, (B, T) ragged.

    They stay unchanged but for `lowercase` and bytes that are no UTF-8. A word spelt like a special
    token, such as <unk> in prepared corpora, is a word like any other.
    """

    raw = FieldSpec((None,), "string")

    def as_tensor(self, values: Sequence[Value]) -> tf.RaggedTensor:
        import tensorflow as tf

        flat = [word for words in values for word in words]
        lengths = [len(words) for words in values]
        return tf.RaggedTensor.from_row_lengths(
            tf.constant(flat, tf.string, shape=[len(flat)]), tf.constant(lengths, tf.int64)
        )

    def split(self, values: RawColumn) -> tf.RaggedTensor:
        import tensorflow as tf

        words = tf.strings.unicode_transcode(values.flat_values, "UTF-8", "UTF-8", errors="replace")
        if self.settings.lowercase:
            words = tf.strings.lower(words, encoding="utf-8")
        return values.with_flat_values(words)


class CharacterTokenizer(_CountingTokenizer):
    """Unicode code points, which are their own keys."""

    def check_state(self) -> None:
        super().check_state()
        if any(len(token) != 1 for token in self.state.vocabulary):
            raise ValueError("a token must be one character")

    def split(self, values: tf.Tensor) -> tf.RaggedTensor:
        return tokens.characters(self.normalise(values), punctuation=self.keeps_punctuation)

    def to_text(self, flat: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.strings.unicode_encode(flat[:, None], "UTF-8")

    def join(self, pieces: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.strings.reduce_join(pieces, axis=1)

    def _keys(self, flat: tf.Tensor) -> tf.Tensor:
        return flat

    def _vocabulary_keys(self) -> np.ndarray:
        return np.asarray([ord(character) for character in self.state.vocabulary], np.int32)
