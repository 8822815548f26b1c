"""Reading of texts for the baselines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np

from pipelines.core.types import Value

SLOTS = 2**22
"""Buckets that n-grams are hashed into."""


def read_texts(batches: Iterable[Sequence[Value]]) -> Iterator[str]:
    for text in chain.from_iterable(batches):
        yield text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def select_texts(texts: Iterable[str], rows: np.ndarray) -> Iterator[str]:
    """The texts at these ascending positions, read as a stream."""
    wanted = iter(rows.tolist())
    following = next(wanted, None)
    for position, text in enumerate(texts):
        if position == following:
            yield text
            following = next(wanted, None)
