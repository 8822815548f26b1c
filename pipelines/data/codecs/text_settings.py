"""The settings of a text column."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Range

from models.settings import MOST, Count, settings


@settings
class TextSettings:
    """How a text becomes numbers.

    tokens           word: also punctuation marks, symbols, and each letter of scripts without
                     spaces. character: Unicode code points. sentencepiece: pieces learnt from the
                     training texts (Kudo & Richardson 2018). list: the column holds lists of words,
                     which are not split further; strip_markup and punctuation leave them unchanged.
    vocabulary_size  the largest number of ids, special ones included.
    minimum_count    words and characters that are rarer in training are unknown.
    strip_markup     tags such as <br /> become spaces, entities such as &amp; characters.
    max_tokens       longer texts are cut: only the head or the tail is kept, or both: a quarter
                     head and the rest tail (Sun et al. 2019, "How to Fine-Tune BERT").
    model_type       of sentencepiece.
    """

    tokens: Literal["word", "character", "sentencepiece", "list"]
    vocabulary_size: Annotated[int, Range(ge=3, le=MOST)]
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
