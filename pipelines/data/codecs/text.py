"""Text <-> token ids."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field as Range

from models.settings import Count, settings
from pipelines.core.contracts import FieldCodec, FieldSpec
from pipelines.core.errors import UserError
from pipelines.data.codecs import subwords, tokens
from pipelines.data.codecs.counting import Counts, Lengths
from pipelines.data.codecs.segmentation import Segmentation, redrawn
from pipelines.runs.parallel import map_in_order

if TYPE_CHECKING:
    import tensorflow as tf

PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
"""No token of a text is spelt like these: its "<" is a token of its own."""
SPACE = "▁"
"""What sentencepiece writes for a space."""


@settings
class TextSettings:
    """How a text becomes numbers.

    tokens           word: also punctuation marks, symbols, and each letter of scripts without
                     spaces. character: Unicode code points. sentencepiece: pieces learnt from the
                     training texts (Kudo & Richardson 2018).
    vocabulary_size  at most so many different ids, special ones included.
    minimum_count    words and characters that are rarer in training are unknown.
    strip_markup     tags such as <br /> become spaces, entities such as &amp; characters.
    max_tokens       longer texts are cut: only the head or the tail is kept, or both: a quarter
                     head and the rest tail (Sun et al. 2019, "How to Fine-Tune BERT").
    model_type       of sentencepiece.
    """

    tokens: Literal["word", "character", "sentencepiece"]
    vocabulary_size: Annotated[int, Range(ge=3)]
    minimum_count: Count
    lowercase: bool
    strip_markup: bool
    punctuation: Literal["keep", "drop"]
    max_tokens: Count
    truncate: Literal["head", "tail", "both"]
    model_type: Literal["unigram", "bpe"]

    @property
    def limit(self) -> str:
        """What happens to long texts, as a sentence."""
        where = {"head": "at the beginning", "tail": "at the end", "both": "at both ends"}
        most = f"{self.max_tokens:,}"
        return f"Of a text with more than {most} tokens it reads {most}, {where[self.truncate]}."


class TextCodec(FieldCodec):
    """Ids: 0 padding, 1 unknown, with markers 2 begin and 3 end, then tokens from frequent to rare.

    A text without tokens is one unknown token, so no sequence is empty. Markers enclose a sequence
    (unless `enclose` is False: then they only have their ids) and are not counted in max_tokens.
    `also` are other columns that the vocabulary is learnt from; with `like` it is not learnt but
    that of another codec, which must be fitted first.

    Words and characters take TensorFlow's core operations only and no tables: there is nothing that
    a SavedModel has to track. Sentencepiece takes `import tensorflow_text`, also where its
    SavedModel is loaded, and `resources` to be tracked.

    `vectors` as in `vectors_for`: words that have one are known though training lacks them, from
    the head of their table as far as vocabulary_size allows.
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
        self._state: dict[str, Any] = {}

    # Learning

    @property
    def learns_from(self) -> tuple[str, ...]:
        return (self.column, *self.also)

    def fit(self, batches: Iterable[Sequence[Any]]) -> None:
        self._forget()
        if self.like is not None:
            self._state = self.like._state
            return
        if self.settings.tokens == "sentencepiece":
            vocabulary, facts, model = self._train_pieces(batches)
        else:
            vocabulary, facts = self._count(batches)
            model = b""
        if not vocabulary:
            raise UserError(f"column {self.column!r} has no text to learn a vocabulary from")
        self._state = {"vocabulary": vocabulary, "facts": facts, "model": model}

    def _count(self, batches: Iterable[Sequence[Any]]) -> tuple[list[str], dict[str, Any]]:
        counts = Counts(Lengths(self.settings.max_tokens))
        counts.add(map_in_order(self._numpy_tokens(), batches))
        most = self.settings.vocabulary_size - self._specials
        vocabulary, unknown = counts.most_frequent(most, self.settings.minimum_count)
        facts = {"unknown_share": unknown, **counts.lengths.summary()}
        if self.vectors is not None and self.settings.tokens == "word":
            from pipelines.data.codecs.word_vectors import words_with_vectors

            have = set(vocabulary)
            more = (word for word in words_with_vectors(self.vectors) if word not in have)
            vocabulary += islice(more, most - len(vocabulary))
            facts["words from vectors"] = len(vocabulary) - len(have)
        return vocabulary, facts

    def _train_pieces(
        self, batches: Iterable[Sequence[Any]]
    ) -> tuple[list[str], dict[str, Any], bytes]:
        sample: list[str] = []

        def texts() -> Iterator[str]:
            for normal in map_in_order(self._numpy_text(), batches):
                lines = [text.decode() for text in normal.tolist()]
                sample.extend(lines[: max(0, subwords.MEASURED - len(sample))])
                yield from lines

        chosen = self.settings
        size, kind = chosen.vocabulary_size, chosen.model_type
        model = subwords.train(texts(), size, kind, self.markers, self.column)
        pieces = subwords.pieces(model)
        lengths = Lengths(chosen.max_tokens)
        ids = subwords.encode(model, sample)
        lengths.add(np.asarray([len(row) for row in ids], np.int64))
        unknown = sum(row.count(UNKNOWN) for row in ids) / max(lengths.tokens, 1)
        return pieces[self._specials :], {"unknown_share": unknown, **lengths.summary()}, model

    def _numpy_tokens(self) -> Any:
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def split(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            ragged = self._split(values)
            return ragged.flat_values, ragged.row_lengths()

        def run(texts: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
            flat, lengths = split(tf.constant(texts, tf.string, shape=[len(texts)]))
            return flat.numpy(), lengths.numpy()

        return run

    def _numpy_text(self) -> Any:
        import tensorflow as tf

        def run(texts: Sequence[Any]) -> np.ndarray:
            return self._normalise(tf.constant(texts, tf.string, shape=[len(texts)])).numpy()

        return run

    # Graph code

    def encode(self, values: tf.Tensor) -> tf.RaggedTensor:
        """(B,) text to (B, T) int32."""
        cut = self._truncate(self._split(values))
        ids = cut.with_flat_values(self._number(cut.flat_values))
        return self._enclose(ids, UNKNOWN, BEGIN, END)

    def pieces(self, values: tf.Tensor) -> tf.RaggedTensor:
        """(B,) text to (B, T) its tokens as text, one for each id that `encode` gives."""
        import tensorflow as tf

        cut = self._truncate(self._split(values))
        if self.settings.tokens == "character":
            cut = cut.with_flat_values(tf.strings.unicode_encode(cut.flat_values[:, None], "UTF-8"))
        elif self.settings.tokens == "sentencepiece":
            cut = cut.with_flat_values(tf.gather(tf.constant(self.vocabulary), cut.flat_values))
        _, unknown, begin, end = SPECIAL
        return self._enclose(cut, unknown, begin, end)

    def text(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """(B, T) ids to (B,) text, up to the first end marker, without padding and markers."""
        import tensorflow as tf

        if isinstance(ids, tf.RaggedTensor):
            ids = ids.to_tensor(PAD)
        keep = ids != PAD
        if self.markers:
            ended = tf.cumsum(tf.cast(ids == END, tf.int32), axis=1) > 0
            keep = keep & (ids != BEGIN) & ~ended
        return self.join(tf.where(keep, tf.gather(tf.constant(self.vocabulary), ids), ""))

    def tokens(self, ids: tf.Tensor) -> tf.Tensor:
        """(B, T) ids to (B, T) tokens as text, "" for padding."""
        import tensorflow as tf

        return tf.where(ids == PAD, "", tf.gather(tf.constant(self.vocabulary), ids))

    def join(self, pieces: tf.Tensor) -> tf.Tensor:
        """(B, T) tokens as text, "" where there is none, to (B,) text as people write it."""
        import tensorflow as tf

        if self.settings.tokens == "word":
            return tokens.join(tf.ragged.boolean_mask(pieces, pieces != ""))
        joined = tf.strings.reduce_join(pieces, axis=1)
        if self.settings.tokens == "sentencepiece":
            # It marks the beginning of words.
            joined = tf.strings.strip(tf.strings.regex_replace(joined, SPACE, " "))
        return joined

    def _normalise(self, values: tf.Tensor) -> tf.Tensor:
        return tokens.normalise(
            values, lowercase=self.settings.lowercase, strip_markup=self.settings.strip_markup
        )

    def _split(self, values: tf.Tensor) -> tf.RaggedTensor:
        """(B,) text to (B, T): words, code points, or ids of pieces; a row may be empty."""
        values = self._normalise(values)
        punctuation = self.settings.punctuation == "keep"
        if self.settings.tokens == "word":
            return tokens.words(values, punctuation=punctuation)
        if self.settings.tokens == "character":
            return tokens.characters(values, punctuation=punctuation)
        if not punctuation:
            values = tokens.without_punctuation(values)
        return self._pieces_tokenizer.tokenize(values)

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

    def _number(self, flat: tf.Tensor) -> tf.Tensor:
        """Words, code points or ids of pieces to int32 ids.

        Words are found by their 64-bit hash (FarmHash, the same in every version): among 100,000
        of them, a word outside the vocabulary is mistaken for one in it once in 10^14 times.
        """
        import tensorflow as tf

        if self.settings.tokens == "sentencepiece":
            return tf.cast(flat, tf.int32)
        if self.settings.tokens == "word":
            flat = tf.strings.to_hash_bucket_fast(flat, 2**63 - 1)
        keys, ids = self._sorted_keys
        place = tf.minimum(tf.searchsorted(tf.constant(keys), flat), len(keys) - 1)
        found = tf.gather(tf.constant(keys), place) == flat
        return tf.where(found, tf.gather(tf.constant(ids), place), UNKNOWN)

    def _enclose(self, ragged: tf.RaggedTensor, unknown: Any, begin: Any, end: Any) -> Any:
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

    def redrawn(
        self, padded: np.ndarray, lengths: np.ndarray, alpha: float, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids (B, T) and lengths (B,) of the same texts, cut into pieces at random."""
        if alpha not in self._segmentations:
            model, kind = self._state["model"], self.settings.model_type
            self._segmentations[alpha] = Segmentation(model, kind, alpha)
        return redrawn(padded, lengths, self._segmentations[alpha], self._specials, random)

    @cached_property
    def _segmentations(self) -> dict[float, Segmentation]:
        """By alpha; they remember words."""
        return {}

    # What was learnt

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Tokens by id, special ones included."""
        return (*SPECIAL[: self._specials], *self._state["vocabulary"])

    @property
    def _specials(self) -> int:
        return 4 if self.markers else 2

    @cached_property
    def _sorted_keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of the words, or code points, in ascending order, and their ids."""
        words = self._state["vocabulary"]
        if self.settings.tokens == "character":
            keys = np.asarray([ord(character) for character in words], np.int32)
        else:
            import tensorflow as tf

            with tf.init_scope():
                keys = tf.strings.to_hash_bucket_fast(words, 2**63 - 1).numpy()
        order = np.argsort(keys)
        return keys[order], (order + self._specials).astype(np.int32)

    @cached_property
    def _pieces_tokenizer(self) -> Any:
        return subwords.tokenizer(self._state["model"])

    @property
    def resources(self) -> list[Any]:
        """What a SavedModel has to track."""
        return [self._pieces_tokenizer] if self.settings.tokens == "sentencepiece" else []

    @property
    def operators(self) -> tuple[str, ...]:
        return ("tensorflow_text",) if self.settings.tokens == "sentencepiece" else ()

    def _forget(self) -> None:
        for name in ("vocabulary", "_sorted_keys", "_pieces_tokenizer", "_segmentations"):
            self.__dict__.pop(name, None)

    def decode(self, numbers: np.ndarray) -> str:
        import tensorflow as tf

        return self.text(tf.constant(numbers, tf.int32)[None]).numpy()[0].decode()

    @property
    def field(self) -> FieldSpec:
        return FieldSpec(shape=(None,), dtype="int32")

    @property
    def size(self) -> int:
        return len(self.vocabulary)

    def _made_with(self) -> dict[str, Any]:
        return {
            "column": self.column,
            "markers": self.markers,
            "enclose": self.enclose,
            "learnt_from": list(self.learns_from if self.like is None else self.like.learns_from),
            "vectors": self.vectors,
            "settings": dataclasses.asdict(self.settings),
        }

    def state(self) -> dict[str, Any]:
        model = base64.b64encode(self._state["model"]).decode()
        return {**self._made_with(), **self._state, "model": model}

    def restore(self, state: Mapping[str, Any]) -> None:
        """UserError if the state was learnt with other settings."""
        made = {name: state[name] for name in self._made_with()}
        if made != self._made_with():
            raise UserError(f"a codec learnt with {made} can't be used with {self._made_with()}")
        self._forget()
        self._state = {
            "vocabulary": list(state["vocabulary"]),
            "facts": dict(state["facts"]),
            "model": base64.b64decode(state["model"]),
        }

    def summary(self) -> dict[str, Any]:
        """vocabulary: ids. unknown_share: of all training tokens. truncated_share: of texts.
        Lengths are in tokens, before truncation. For sentencepiece, of the first texts only.
        """
        return {"vocabulary": self.size, **self._state["facts"]}
