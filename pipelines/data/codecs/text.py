"""Text <-> token ids."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, FiniteFloat

from pipelines.core.contracts import FieldCodec, FieldSpec
from pipelines.core.errors import UserError, shown
from pipelines.core.saved_files import typed
from pipelines.core.types import JsonObject, RawColumn, Value
from pipelines.data.codecs.restoring import check_same_settings
from pipelines.data.codecs.special_ids import BEGIN, END, PAD, SPECIAL, UNKNOWN
from pipelines.data.codecs.subword_tokenizer import SentencePieceTokenizer
from pipelines.data.codecs.text_settings import TextSettings
from pipelines.data.codecs.tokenizers import (
    CharacterTokenizer,
    Tokenizer,
    TokenizerState,
    WordListTokenizer,
    WordTokenizer,
)

if TYPE_CHECKING:
    import tensorflow as tf

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "word": WordTokenizer,
    "character": CharacterTokenizer,
    "sentencepiece": SentencePieceTokenizer,
    "list": WordListTokenizer,
}
"""By the setting `tokens`."""


Token = int | str
"""A token by its id or, before it has one, as text."""


@dataclass(frozen=True)
class _State:
    vocabulary: Annotated[list[str], Field(min_length=1)]
    facts: dict[str, int | FiniteFloat]
    model: str


class TextCodec(FieldCodec):
    """Ids: 0 padding, 1 unknown, with markers 2 begin and 3 end, then tokens from frequent to rare.

    A text without tokens is one unknown token, so no sequence is empty. Markers enclose a sequence
    (unless `enclose` is False: then they only have their ids) and are not counted in max_tokens.

    also     other columns that the vocabulary is learnt from.
    like     a codec whose vocabulary is used instead of a new one; it must be fitted first.
    vectors  as in `vectors_for`: words that have a vector are known even if training lacks them,
             the first of their table as far as vocabulary_size allows.

    A tokenizer (settings.tokens) finds the tokens; the codec adds ids, markers, truncation and the
    saved state. Sentencepiece needs `import tensorflow_text`, also where its SavedModel is loaded,
    and `resources` to be tracked; the other tokenizers use TensorFlow's core operations only.
    """

    def __init__(
        self,
        column: str,
        settings: TextSettings,
        *,
        markers: bool = False,
        enclose: bool = True,
        also: tuple[str, ...] = (),
        like: TextCodec | None = None,
        vectors: str | None = None,
    ):
        self.column = column
        self.settings = settings
        self.markers = markers
        self.enclose = markers and enclose
        self.also = also
        self.like = like
        self.vectors = vectors
        self.raw = TOKENIZERS[settings.tokens].raw
        self._state: TokenizerState | None = None

    @property
    def learns_from(self) -> tuple[str, ...]:
        return (self.column, *self.also)

    def fit(self, batches: Iterable[Sequence[Value]]) -> None:
        """UserError if the training texts hold no token, or the column isn't of the kind `raw`."""
        if self.like is not None:
            self._set_state(self.like._state)
            return
        self._set_state(None)
        learned = self._tokenizer.learn(self._check_values(batches), self.column, self.vectors)
        if not learned.vocabulary:
            raise UserError(f"column {self.column!r} has no text to learn a vocabulary from")
        self._set_state(learned)

    def _check_values(self, batches: Iterable[Sequence[Value]]) -> Iterator[Sequence[Value]]:
        """The batches. Looks at the first value of each: a column holds values of one kind."""
        for batch in batches:
            if len(batch) and isinstance(batch[0], str | bytes) == self.raw.is_sequence:
                expected = "lists of words" if self.raw.is_sequence else "text"
                raise UserError(
                    f"column {self.column!r} must hold {expected} with "
                    f"tokens={self.settings.tokens}; received {shown(batch[0])}: use "
                    f"tokens={'word' if self.raw.is_sequence else 'list'}"
                )
            yield batch

    def _set_state(self, state: TokenizerState | None) -> None:
        self._state = state
        for name in ("vocabulary", "_tokenizer"):
            self.__dict__.pop(name, None)

    # Cached, not made by the constructor: data is identified by the attributes of unfitted codecs.
    @cached_property
    def _tokenizer(self) -> Tokenizer:
        make = TOKENIZERS[self.settings.tokens]
        return make(self.settings, self._special_count, self._state)

    # Graph code

    def encode(self, values: RawColumn) -> tf.RaggedTensor:
        """(B,) text, or ragged (B, T) words where tokens=list, to (B, T) int32."""
        tokens = self._truncate(self._tokenizer.split(values))
        ids = tokens.with_flat_values(self._tokenizer.to_ids(tokens.flat_values))
        return self._enclose(ids, UNKNOWN, BEGIN, END)

    def all_ids(self, values: RawColumn) -> tf.RaggedTensor:
        """As `encode`, of the whole text, however long."""
        tokens = self._tokenizer.split(values)
        ids = tokens.with_flat_values(self._tokenizer.to_ids(tokens.flat_values))
        return self._enclose(ids, UNKNOWN, BEGIN, END)

    def as_tensor(self, values: Sequence[Value]) -> tf.Tensor | tf.RaggedTensor:
        """Raw values as `encode` takes them."""
        return self._tokenizer.as_tensor(values)

    def tokenize(self, values: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
        """The tokens that `encode` makes ids of, as text (B, T)."""
        tokens = self._truncate(self._tokenizer.split(values))
        texts = tokens.with_flat_values(self._tokenizer.to_text(tokens.flat_values))
        _, unknown, begin, end = SPECIAL
        return self._enclose(texts, unknown, begin, end)

    def text(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """(B, T) ids to (B,) text, up to the first end marker, without padding and markers."""
        import tensorflow as tf

        if isinstance(ids, tf.RaggedTensor):
            ids = ids.to_tensor(PAD)
        keep = ids != PAD
        if self.markers:
            is_after_end = tf.cumsum(tf.cast(ids == END, tf.int32), axis=1) > 0
            keep = keep & (ids != BEGIN) & ~is_after_end
        return self.join(tf.where(keep, tf.gather(tf.constant(self.vocabulary), ids), ""))

    def tokens(self, ids: tf.Tensor) -> tf.Tensor:
        """(B, T) ids to (B, T) tokens as text, "" for padding."""
        import tensorflow as tf

        return tf.where(ids == PAD, "", tf.gather(tf.constant(self.vocabulary), ids))

    def join(self, pieces: tf.Tensor) -> tf.Tensor:
        """(B, T) tokens as text, "" where there is none, to (B,) text as people write it."""
        return self._tokenizer.join(pieces)

    def _truncate(self, ragged: tf.RaggedTensor) -> tf.RaggedTensor:
        import tensorflow as tf

        most = self.settings.max_tokens
        head = {"head": most, "tail": 0, "both": most // 4}[self.settings.truncate]
        lengths = ragged.row_lengths()
        of_row = ragged.value_rowids()
        place = tf.range(tf.size(of_row, tf.int64)) - tf.gather(ragged.row_starts(), of_row)
        keep = (place < head) | (place >= tf.gather(lengths, of_row) - (most - head))
        return tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(ragged.flat_values, keep), tf.minimum(lengths, most), validate=False
        )

    def _enclose(
        self, ragged: tf.RaggedTensor, unknown: Token, begin: Token, end: Token
    ) -> tf.RaggedTensor:
        """Fills empty rows with one unknown token and adds the markers."""
        import tensorflow as tf

        empty = tf.cast(ragged.row_lengths() == 0, tf.int64)
        fill = tf.fill([tf.reduce_sum(empty)], unknown)
        parts = [ragged, tf.RaggedTensor.from_row_lengths(fill, empty, validate=False)]
        if self.enclose:
            column = [tf.shape(empty)[0], 1]
            parts = [tf.fill(column, begin), *parts, tf.fill(column, end)]
        return tf.concat(parts, axis=1)

    # While training

    def resegment(
        self, padded: np.ndarray, lengths: np.ndarray, alpha: float, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids (B, T) and lengths (B,) of the same texts, cut into other pieces drawn at random.

        ValueError unless the tokens are sentencepiece's.
        """
        if not isinstance(self._tokenizer, SentencePieceTokenizer):
            raise ValueError(f"tokens={self.settings.tokens} can't be cut into other pieces")
        return self._tokenizer.resegment(padded, lengths, alpha, random)

    # What was learnt

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Tokens by id, special ones included."""
        return (*SPECIAL[: self._special_count], *self._tokenizer.state.vocabulary)

    @property
    def _special_count(self) -> int:
        return 4 if self.markers else 2

    @property
    def resources(self) -> list[object]:
        return self._tokenizer.resources

    @property
    def operators(self) -> tuple[str, ...]:
        return self._tokenizer.operators

    def decode(self, numbers: np.ndarray) -> str:
        import tensorflow as tf

        return self.text(tf.constant(numbers, tf.int32)[None]).numpy()[0].decode()

    @property
    def field(self) -> FieldSpec:
        return FieldSpec(shape=(None,), dtype="int32")

    @property
    def size(self) -> int:
        return len(self.vocabulary)

    def _constructor_arguments(self) -> JsonObject:
        return {
            "column": self.column,
            "markers": self.markers,
            "enclose": self.enclose,
            "learnt_from": list(self.learns_from if self.like is None else self.like.learns_from),
            "vectors": self.vectors,
            "settings": dataclasses.asdict(self.settings),
        }

    def state(self) -> JsonObject:
        learned = self._tokenizer.state
        model = base64.b64encode(learned.model).decode()
        return {**self._constructor_arguments(), **learned._asdict(), "model": model}

    def restore(self, state: JsonObject) -> None:
        """UserError if the state was learnt with other settings."""
        check_same_settings("a codec learnt", state, self._constructor_arguments())
        saved = typed(_State, state)
        model = base64.b64decode(saved.model, validate=True)
        self._set_state(TokenizerState(saved.vocabulary, dict(saved.facts), model))
        self._tokenizer.check_state()

    def summary(self) -> JsonObject:
        """vocabulary: number of ids. unknown_share: of all training tokens. truncated_share: of all
        training texts. Lengths are in tokens, before truncation. With sentencepiece the shares and
        lengths are those of the first texts only.
        """
        return {"vocabulary": self.size, **self._tokenizer.state.facts}
