"""What a tagger must beat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def most_frequent_tags(
    train: Iterable[tuple[Sequence[str], Sequence[str]]], test: Iterable[Sequence[str]]
) -> list[list[str]]:
    """For each word the tag that it most often has in training.

    A word that training lacks has the tag that words of one occurrence most often have: they are
    the most like it. Ties go to the first in alphabetical order.
    """
    counts: dict[str, Counter[str]] = {}
    for words, tags in train:
        for word, tag in zip(words, tags, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
    rare: Counter[str] = Counter()
    overall: Counter[str] = Counter()
    for found in counts.values():
        overall.update(found)
        if found.total() == 1:
            rare.update(found)
    usual = _most_frequent(rare or overall)
    best = {word: _most_frequent(found) for word, found in counts.items()}
    return [[best.get(word, usual) for word in words] for words in test]


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda tag: (-counts[tag], tag))
