"""A filter of training examples that teach nothing or something wrong."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from models.settings import Count, settings
from pipelines.core.contracts import Filter
from pipelines.core.types import Example

_ALLOWANCE = 10
"""Bytes added to both lengths: two English words or three Japanese characters, as much as true
translations of very short sentences differ by ("Aah!").

Without it 0.2% of 12,196 Japanese-English pairs from Tatoeba have a ratio above 3, true ones; with
it none has: the greatest is 2.6, and 99.9% are below 2.3. Of the 29,000 English-German pairs of
Multi30k 99.9% are below 1.8, and the only two above 2.1 are no translations ("@@"; 5.3 and 4.8).
"""


@settings
class PairCleaning(Filter):
    """Keeps out pairs of sentences of which one can hardly be a translation of the other.

    length_ratio        the most by which one side may be longer than the other; null for any.
                        Lengths are in bytes of UTF-8, which differ less between scripts than
                        characters do (1.2 times between Japanese and English, not 2.6), and 10 are
                        added to both. Scripts of three bytes a letter, such as Thai and Hindi,
                        need more than a Latin one.
    maximum_characters  of either side; null for any number.
    """

    length_ratio: Annotated[float, Field(gt=1)] | None
    maximum_characters: Count | None

    def reject(self, example: Example) -> str | None:
        source, target = example["source"], example["target"]
        most = self.maximum_characters
        if most is not None and (len(source) > most or len(target) > most):
            return "too long"
        ratio = self.length_ratio
        if ratio is not None:
            source_size, target_size = (
                _utf8_size(source) + _ALLOWANCE,
                _utf8_size(target) + _ALLOWANCE,
            )
            if source_size > ratio * target_size or target_size > ratio * source_size:
                return "length ratio"
        return None


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
