"""METEOR restricted to exact and stem matches, which need no tables of synonyms or paraphrases.

Denkowski & Lavie 2014 (METEOR 1.5) with its English parameters. Content and function words weigh
the same, as they do in METEOR for the languages that it has no list of function words for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pipelines.core.errors import UserError

ALPHA, BETA, GAMMA = 0.85, 0.2, 0.6
"""Weight of recall; power and weight of the penalty for words in another order."""

EXACT, STEM = 1.0, 0.6
"""What a match is worth."""

BEAM = 40
"""Alignments that are kept at each word."""

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


def stemming(language: str | None) -> Callable[[str], str]:
    """The language's Snowball stemmer; None: every word is its own stem."""
    if language is None:
        return str
    import snowballstemmer

    check_stemmer(language)
    return functools.lru_cache(maxsize=100_000)(snowballstemmer.stemmer(language).stemWord)


def meteor_statistics(
    texts: Sequence[Words], references: Sequence[Sequence[Words]], stem: Callable[[str], str]
) -> np.ndarray:
    """(N, 5): what the matches are worth, their number, lengths of text and reference, chunks.

    Of the reference beside which the text scores most, the first of equals. A text that is its
    reference has 0 chunks, so that its words' order costs nothing.
    """
    rows = []
    for text, given in zip(texts, references, strict=True):
        stems = [stem(word) for word in text]
        found = [
            _beside(text, stems, reference, [stem(word) for word in reference])
            for reference in given
        ]
        rows.append(found[int(meteor_of(np.array(found, float)).argmax())])
    return np.array(rows, float).reshape(-1, 5)


def meteor_of(sums: np.ndarray) -> np.ndarray:
    """Sums of statistics (R, 5) to METEOR (R,), from 0 to 1."""
    worth, matches, said, right, chunks = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = worth / said, worth / right
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        score = mean * (1 - GAMMA * (chunks / matches) ** BETA)
    # Nothing said where nothing is right.
    silent = (said == 0) & (right == 0)
    return np.where(silent, 1.0, np.where(matches > 0, score, 0.0))


def _beside(text: Words, stems: Words, reference: Words, reference_stems: Words) -> tuple:
    found = align(text, stems, reference, reference_stems)
    same = found.chunks == 1 and found.matches == len(text) == len(reference)
    return (found.worth, found.matches, len(text), len(reference), 0 if same else found.chunks)


class Alignment(NamedTuple):
    """Words of a text matched to words of a reference, each to one at most; the least is best.

    chunks    runs of matches that stand next to each other on both sides.
    distance  sum of the differences in place.
    """

    minus_matches: int
    minus_worth: float
    chunks: int
    distance: int

    @property
    def matches(self) -> int:
        return -self.minus_matches

    @property
    def worth(self) -> float:
        return -self.minus_worth


def align(text: Words, stems: Words, reference: Words, reference_stems: Words) -> Alignment:
    """The most matches, of these the most exact ones, then the fewest chunks, the least distance.

    Word by word, with the BEAM best of what was matched so far.
    """
    places: dict[str, list[int]] = {}
    for place, stem in enumerate(reference_stems):
        places.setdefault(stem, []).append(place)
    # By the places that are used, as bits, and where the last word's match was.
    kept: dict[tuple[int, int], tuple[int, float, int, int]] = {(0, -2): (0, 0.0, 0, 0)}
    for place, (word, stem) in enumerate(zip(text, stems, strict=True)):
        others = places.get(stem, ())
        # Where nothing else wants the only match, leaving it out is never better.
        certain = len(others) == 1 and stems.count(stem) == 1
        following: dict[tuple[int, int], tuple[int, float, int, int]] = {}
        for (used, last), found in kept.items():
            options = [] if certain else [((used, -2), found)]
            matches, worth, chunks, distance = found
            for other in others:
                if not used >> other & 1:
                    longer = (
                        matches - 1,
                        worth - (EXACT if reference[other] == word else STEM),
                        chunks + (other != last + 1),
                        distance + abs(place - other),
                    )
                    options.append(((used | 1 << other, other), longer))
            for key, option in options:
                if key not in following or option < following[key]:
                    following[key] = option
        if len(following) > BEAM:
            following = dict(sorted(following.items(), key=lambda item: item[1])[:BEAM])
        kept = following
    return Alignment(*min(kept.values()))
