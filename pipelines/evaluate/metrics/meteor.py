"""METEOR with exact and stem matches only, so that it needs no synonyms or paraphrases.

Denkowski & Lavie 2014 (METEOR 1.5), with the English parameters. Content and function words have
the same weight, as in METEOR for languages without a list of function words.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pipelines.core.errors import UserError

ALPHA, BETA, GAMMA = 0.85, 0.2, 0.6
"""Weight of recall; exponent and weight of the penalty for a different word order."""

EXACT, STEM = 1.0, 0.6
"""Weights of the two kinds of matches."""

BEAM_SIZE = 40
"""Partial alignments that the search keeps at each word."""

NONE = -2
"""In place of a position: no position comes right after it."""

SIGNATURE = (
    f"METEOR 1.5 with exact ({EXACT:g}) and stem ({STEM:g}) matches only, alpha {ALPHA}, "
    f"beta {BETA}, gamma {GAMMA}, no function words; sums over the corpus of the best reference's "
    "statistics"
)

Words = Sequence[str]


def check_stemmer(language: str | None, setting: str = "task.stemmer") -> None:
    """Raises UserError for a language without a Snowball stemmer."""
    if language is None:
        return
    import snowballstemmer

    known = sorted(snowballstemmer.algorithms())
    if language not in known:
        raise UserError(
            f"{setting} must be null or one of {', '.join(known)}; got {language}. "
            "With null only exact matches count"
        )


def find_stemmer(language: str | None) -> Callable[[str], str]:
    """The Snowball stemmer of a language; with None every word is its own stem."""
    if language is None:
        return str
    import snowballstemmer

    check_stemmer(language)
    return functools.lru_cache(maxsize=100_000)(snowballstemmer.stemmer(language).stemWord)


def meteor_statistics(
    texts: Sequence[Words], references: Sequence[Sequence[Words]], stem: Callable[[str], str]
) -> np.ndarray:
    """(N, 5): weight of all matches, number of matches, lengths of text and reference, chunks.

    They are those of the reference with the highest score, the first among equals. A text that
    equals its reference has 0 chunks, and so no penalty.
    """
    rows = []
    for text, several in zip(texts, references, strict=True):
        stems = [stem(word) for word in text]
        found = [
            _compare(text, stems, reference, [stem(word) for word in reference])
            for reference in several
        ]
        rows.append(found[int(meteor_from_sums(np.array(found, float)).argmax())])
    return np.array(rows, float).reshape(-1, 5)


def meteor_from_sums(sums: np.ndarray) -> np.ndarray:
    """Sums of `meteor_statistics` (R, 5) to METEOR (R,), 0 to 1."""
    weight, matches, length, reference_length, chunks = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = weight / length, weight / reference_length
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        score = mean * (1 - GAMMA * (chunks / matches) ** BETA)
    both_empty = (length == 0) & (reference_length == 0)
    return np.where(both_empty, 1.0, np.where(matches > 0, score, 0.0))


def _compare(text: Words, stems: Words, reference: Words, reference_stems: Words) -> tuple:
    """A row of `meteor_statistics`."""
    found = align(text, stems, reference, reference_stems)
    same = found.chunks == 1 and found.matches == len(text) == len(reference)
    return (found.weight, found.matches, len(text), len(reference), 0 if same else found.chunks)


class Alignment(NamedTuple):
    """Matches of a text's words to words of a reference, at most one each. Smaller is better.

    minus_matches, minus_weight  number and weight of the matches, negated: more are better.
    chunks                       runs of matches that are adjacent in both texts.
    distance                     sum over the matches of the difference between the two positions.
    """

    minus_matches: int
    minus_weight: float
    chunks: int
    distance: int

    @property
    def matches(self) -> int:
        return -self.minus_matches

    @property
    def weight(self) -> float:
        return -self.minus_weight


def align(text: Words, stems: Words, reference: Words, reference_stems: Words) -> Alignment:
    """The alignment with the most matches, then most weight, fewest chunks and least distance.

    A beam search goes through the words of the text. A state is all that later words depend on:
    which words of the reference are taken, as the bits of an integer, and where the last match was
    (NONE if the last word has no match), since a match right after it continues its chunk. Of the
    partial alignments that end in the same state only the best is kept, and of all states only the
    BEAM_SIZE best. Costs are tuples in the order of Alignment, which is how Python compares them.
    """
    positions: dict[str, list[int]] = {}
    for position, stem in enumerate(reference_stems):
        positions.setdefault(stem, []).append(position)
    states: dict[tuple[int, int], tuple[int, float, int, int]] = {(0, NONE): (0, 0.0, 0, 0)}
    for position, (word, stem) in enumerate(zip(text, stems, strict=True)):
        candidates = positions.get(stem, ())
        # A match that no other word competes for is always taken.
        certain = len(candidates) == 1 and stems.count(stem) == 1
        following: dict[tuple[int, int], tuple[int, float, int, int]] = {}
        for (taken, last), cost in states.items():
            options = [] if certain else [((taken, NONE), cost)]
            matches, weight, chunks, distance = cost
            for candidate in candidates:
                if not taken >> candidate & 1:
                    longer = (
                        matches - 1,
                        weight - (EXACT if reference[candidate] == word else STEM),
                        chunks + (candidate != last + 1),
                        distance + abs(position - candidate),
                    )
                    options.append(((taken | 1 << candidate, candidate), longer))
            for key, option in options:
                if key not in following or option < following[key]:
                    following[key] = option
        if len(following) > BEAM_SIZE:
            following = dict(sorted(following.items(), key=lambda item: item[1])[:BEAM_SIZE])
        states = following
    return Alignment(*min(states.values()))
