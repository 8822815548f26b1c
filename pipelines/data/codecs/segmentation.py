"""Subword regularisation: random segmentations of the same words in training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pipelines.data.codecs import subwords

VARIANTS = 16
"""Most segmentations of a word, from which one is drawn each time."""


class Segmentation:
    """Draws random segmentations of words into SentencePiece's pieces.

    unigram  draws from the VARIANTS most probable ones, with probabilities proportional to p^alpha
             (Kudo 2018, "Subword Regularization", section 3.2).
    bpe      draws from VARIANTS that skip each merge with probability alpha (Provilkov et al. 2020,
             "BPE-Dropout").

    A word is text between spaces; in scripts without spaces it is the whole text. Words with
    unknown characters stay unchanged. A word's variants are computed once and depend on nothing but
    the word, so that draws are reproducible from the random generator alone.
    """

    def __init__(self, model: bytes, model_type: str, alpha: float):
        self.pieces = subwords.list_pieces(model)
        self.numbers = {piece: number for number, piece in enumerate(self.pieces)}
        self.processor = subwords.load_processor(model)
        self.scores = [self.processor.get_score(number) for number in range(len(self.pieces))]
        self.begins = np.asarray([piece.startswith("▁") for piece in self.pieces])
        self.model_type, self.alpha = model_type, alpha
        self._known: dict[tuple[int, ...], tuple[list[list[int]], np.ndarray]] = {}

    def draw(self, ids: np.ndarray, first_word: int, random: np.random.Generator) -> list[int]:
        """A new segmentation of a text's ids (T,). Ids below `first_word`, markers, stay."""
        new_ids: list[int] = []
        starts = np.flatnonzero(self.begins[ids] | (ids < first_word))
        # Ids before the first beginning of a word are a word, too.
        bounds = sorted({0, *starts.tolist(), len(ids)})
        for start, stop in pairwise(bounds):
            word = tuple(ids[start:stop].tolist())
            if min(word) < first_word:
                new_ids.extend(word)
                continue
            variants, cumulative = self._variants(word)
            new_ids.extend(variants[int(np.searchsorted(cumulative, random.random()))])
        return new_ids

    def _variants(self, word: tuple[int, ...]) -> tuple[list[list[int]], np.ndarray]:
        """Segmentations of a word, and their cumulative probabilities without the last, 1."""
        if word not in self._known:
            make = (
                self._draw_unigram_variants
                if self.model_type == "unigram"
                else self._draw_bpe_variants
            )
            variants, weights = make("".join(self.pieces[number] for number in word))
            if not variants:
                variants, weights = [list(word)], np.ones(1)
            self._known[word] = variants, np.cumsum(weights / weights.sum())[:-1]
        return self._known[word]

    def _draw_unigram_variants(self, text: str) -> tuple[list[list[int]], np.ndarray]:
        plain = text.replace("▁", " ").strip()
        found = self.processor.nbest_encode_as_ids(plain, nbest_size=VARIANTS) if plain else []
        # The n best paths through the lattice of all pieces that the word can be split into. The
        # processor marks the beginning of a word, which not every word here has: drop such paths.
        variants = [ids for ids in found if "".join(self.pieces[i] for i in ids) == text]
        scores = np.asarray([sum(self.scores[i] for i in ids) for ids in variants])
        weights = np.exp(self.alpha * (scores - scores.max())) if variants else scores
        return variants, weights

    def _draw_bpe_variants(self, text: str) -> tuple[list[list[int]], np.ndarray]:
        # Seeded by the word, so that its variants don't depend on when it first occurs.
        random = np.random.default_rng([len(text), *text.encode()])
        variants = [self._merge_pairs(text, random) for _ in range(VARIANTS)]
        whole = [ids for ids in variants if ids is not None]
        return whole, np.ones(len(whole))

    def _merge_pairs(self, text: str, random: np.random.Generator) -> list[int] | None:
        """Merges the best pair of neighbours until none is left; skips some with probability alpha.

        None if a character is no piece.
        """
        parts: Sequence[str] = list(text)
        while True:
            pairs = [
                (self.scores[self.numbers[joined]], -place)
                for place in range(len(parts) - 1)
                if (joined := parts[place] + parts[place + 1]) in self.numbers
                and random.random() >= self.alpha
            ]
            if not pairs:
                break
            place = -max(pairs)[1]
            parts = [*parts[:place], parts[place] + parts[place + 1], *parts[place + 2 :]]
        if any(part not in self.numbers for part in parts):
            return None
        return [self.numbers[part] for part in parts]


def resegment(
    padded: np.ndarray,
    lengths: np.ndarray,
    segmentation: Segmentation,
    first_word: int,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws new segmentations of rows of ids (B, T), lengths (B,); T may change."""
    rows = [
        segmentation.draw(row[:length], first_word, random)
        for row, length in zip(padded, lengths, strict=True)
    ]
    new = np.asarray([len(row) for row in rows], lengths.dtype)
    result = np.zeros((len(rows), new.max()), padded.dtype)
    for row, ids in enumerate(rows):
        result[row, : len(ids)] = ids
    return result, new
