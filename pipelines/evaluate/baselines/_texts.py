"""Reading of texts for the baselines."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def number_tokens(
    texts: Sequence[str], split: Callable[[str], list[str]], numbers: dict[str, int], *, grow: bool
) -> tuple[np.ndarray, np.ndarray]:
    """All tokens of lower-cased texts by number (N,) int64, from 1, and the text of each (N,).

    numbers  of the tokens so far; with `grow` new tokens are added, else they are 0.
    """
    ids, sizes = array("q"), np.zeros(len(texts), int)
    for position, text in enumerate(texts):
        tokens = split(text.lower())
        sizes[position] = len(tokens)
        if grow:
            ids.extend([numbers.setdefault(token, len(numbers) + 1) for token in tokens])
        else:
            ids.extend([numbers.get(token, 0) for token in tokens])
    flat = np.frombuffer(ids, np.int64) if ids else np.zeros(0, np.int64)
    return flat, np.repeat(np.arange(len(texts)), sizes)
