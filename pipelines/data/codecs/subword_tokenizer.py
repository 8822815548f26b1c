"""The tokenizer of SentencePiece's pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pipelines.core.types import Value
from pipelines.data.codecs import subwords, tokens
from pipelines.data.codecs.counting import Lengths
from pipelines.data.codecs.segmentation import Segmentation, resegment
from pipelines.data.codecs.special_ids import UNKNOWN
from pipelines.data.codecs.tokenizers import Batches, Tokenizer, TokenizerState
from pipelines.runs.parallel import map_in_order

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow_text import SentencepieceTokenizer

SPACE = "▁"
"""What SentencePiece writes for a space."""


class SentencePieceTokenizer(Tokenizer):
    """Pieces of words (Kudo & Richardson 2018). Needs tensorflow_text, also in a SavedModel."""

    operators = ("tensorflow_text",)

    def learn(self, batches: Batches, column: str, vectors: str | None) -> TokenizerState:
        sample: list[str] = []

        def texts() -> Iterator[str]:
            for normal in map_in_order(self._numpy_normalise, batches):
                lines = [text.decode() for text in normal.tolist()]
                sample.extend(lines[: max(0, subwords.MEASURED_TEXTS - len(sample))])
                yield from lines

        settings = self.settings
        size, kind = settings.vocabulary_size, settings.model_type
        model = subwords.train(texts(), size, kind, self.first_id > 2, column)
        lengths = Lengths(settings.max_tokens)
        ids = subwords.encode(model, sample)
        lengths.add(np.asarray([len(row) for row in ids], np.int64))
        unknown = sum(row.count(UNKNOWN) for row in ids) / max(lengths.tokens, 1)
        facts = {"unknown_share": unknown, **lengths.summary()}
        return TokenizerState(subwords.list_pieces(model)[self.first_id :], facts, model)

    def check_state(self) -> None:
        if subwords.list_pieces(self.state.model)[self.first_id :] != self.state.vocabulary:
            raise ValueError("the vocabulary must be the pieces of the model")

    def _numpy_normalise(self, texts: Sequence[Value]) -> np.ndarray:
        return self.normalise(self.as_tensor(texts)).numpy()

    @cached_property
    def _graph(self) -> SentencepieceTokenizer:
        return subwords.make_tokenizer(self.state.model)

    @property
    def resources(self) -> list[object]:
        return [self._graph]

    def split(self, values: tf.Tensor) -> tf.RaggedTensor:
        values = self.normalise(values)
        if not self.keeps_punctuation:
            values = tokens.without_punctuation(values)
        return self._graph.tokenize(values)

    def to_ids(self, flat: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.cast(flat, tf.int32)

    def to_text(self, flat: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.gather(tf.constant(subwords.list_pieces(self.state.model)), flat)

    def join(self, pieces: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        joined = tf.strings.reduce_join(pieces, axis=1)
        # SPACE marks the beginning of a word.
        return tf.strings.strip(tf.strings.regex_replace(joined, SPACE, " "))

    def resegment(
        self, padded: np.ndarray, lengths: np.ndarray, alpha: float, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """See TextCodec.resegment."""
        if alpha not in self._segmentations:
            made = Segmentation(self.state.model, self.settings.model_type, alpha)
            self._segmentations[alpha] = made
        return resegment(padded, lengths, self._segmentations[alpha], self.first_id, random)

    @cached_property
    def _segmentations(self) -> dict[float, Segmentation]:
        """By alpha. Cached, because they remember the segmentations of words."""
        return {}
