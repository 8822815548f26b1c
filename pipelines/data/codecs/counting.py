"""Counts tokens of training texts, and lengths of the texts, in bounded memory."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable

import numpy as np

MAX_COUNTED = 2_000_000
"""Most different tokens that are counted; beyond it the rarest are dropped."""


class Counts:
    """Counts of the tokens (bytes or code points), and the lengths of the texts."""

    def __init__(self, lengths: Lengths):
        self.lengths = lengths
        self.tokens: Counter[bytes | int] = Counter()

    def add(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        """batches: the concatenated tokens of several texts, and the lengths of these texts."""
        for flat, lengths in batches:
            self.lengths.add(lengths)
            self.tokens.update(flat.tolist())
            least = 1
            while len(self.tokens) > MAX_COUNTED:
                self.tokens = Counter({key: n for key, n in self.tokens.items() if n > least})
                least += 1

    def most_frequent(self, most: int, minimum: int) -> tuple[list[str], float]:
        """The most frequent tokens, and the share of all occurrences that are other tokens.

        At most `most` tokens that occur at least `minimum` times, from frequent to rare; equally
        frequent ones are sorted.
        """
        frequent = ((-n, key) for key, n in self.tokens.items() if n >= minimum)
        top = heapq.nsmallest(most, frequent)
        top_total = -sum(n for n, _ in top)
        names = [chr(key) if isinstance(key, int) else key.decode() for _, key in top]
        return names, 1 - top_total / max(self.lengths.tokens, 1)


class Lengths:
    """Lengths of training texts; those of more than 100,000 tokens count as 100,000."""

    def __init__(self, max_tokens: int):
        self.max_tokens = max_tokens
        self.tokens = 0
        self.histogram = np.zeros(100_001, np.int64)

    def add(self, lengths: np.ndarray) -> None:
        self.tokens += int(lengths.sum())
        top = len(self.histogram)
        self.histogram += np.bincount(np.minimum(lengths, top - 1), minlength=top)

    def summary(self) -> dict[str, float]:
        total = max(int(self.histogram.sum()), 1)
        up_to = np.cumsum(self.histogram) / total
        limit = min(self.max_tokens, len(up_to) - 1)
        return {
            "truncated_share": float(1 - up_to[limit]),
            "mean_length": self.tokens / total,
            "median_length": int(np.searchsorted(up_to, 0.5)),
            "length_95": int(np.searchsorted(up_to, 0.95)),
        }
