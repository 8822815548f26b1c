"""Baselines of translation: the copied source, and the target of the nearest source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.core.contracts import Split
from pipelines.evaluate.baselines._texts import SLOTS, read_texts, select_texts

if TYPE_CHECKING:
    from scipy import sparse


MAX_TRAINING_PAIRS = 100_000
"""Most training pairs that are searched for the nearest one, spread evenly over all of them."""


NGRAMS = (2, 3, 4)
"""Lengths of the character n-grams by which sources are compared, in any script."""


MAX_SIMILARITIES = 10_000_000
"""Most similarities in memory: about 80 MB."""


def translation_baselines(
    train: Split, test: Split, *, source: str, target: str
) -> dict[str, dict[str, np.ndarray]]:
    """Translations (N,) of the test examples, by system. source, target: names of raw columns."""
    rows = np.linspace(0, len(train) - 1, min(MAX_TRAINING_PAIRS, len(train))).astype(int)
    sources, targets = (
        list(select_texts(read_texts(train.raw(name)), rows)) for name in (source, target)
    )
    queries = list(read_texts(test.raw(source)))
    nearest = np.array([targets[row] for row in nearest_texts(sources, queries)], object)
    some = "" if len(rows) == len(train) else f" of {len(rows):,}"
    return {
        "source copied": {"translation": np.array(queries, object)},
        f"nearest{some} training sentence{'s' if some else ''}": {"translation": nearest},
    }


def nearest_texts(texts: Sequence[str], queries: Sequence[str]) -> np.ndarray:
    """For each query (N,) the number of the most similar text, the first among equals.

    The similarity is the cosine of tf-idf weighted character n-grams.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    counts = _character_ngrams(texts)
    weigh = TfidfTransformer(sublinear_tf=True).fit(counts)
    by_feature = weigh.transform(counts).T.tocsr()
    answers = np.zeros(len(queries), int)
    size = max(1, MAX_SIMILARITIES // len(texts))
    for start in range(0, len(queries), size):
        part = weigh.transform(_character_ngrams(queries[start : start + size]))
        answers[start : start + size] = np.asarray((part @ by_feature).argmax(axis=1)).ravel()
    return answers


def _character_ngrams(texts: Sequence[str], *, chunk: int = 20_000) -> sparse.csr_matrix:
    """Counts of each n-gram in each text (N, SLOTS), hashed as in `_BagOfWords`."""
    from scipy import sparse

    parts = []
    for start in range(0, len(texts), chunk):
        padded = [f" {' '.join(text.lower().split())} " for text in texts[start : start + chunk]]
        characters = np.frombuffer("".join(padded).encode("utf-32-le", "replace"), np.uint32)
        documents = np.repeat(np.arange(len(padded)), [len(text) for text in padded])
        slots, places = [], []
        hashes = np.zeros(len(characters), np.uint64)
        for n in range(1, max(NGRAMS) + 1):
            hashes = hashes[: len(characters) - n + 1] + characters[n - 1 :]
            hashes *= np.uint64(0x9E3779B97F4A7C15)
            if n in NGRAMS:
                whole = documents[: len(hashes)] == documents[n - 1 :]
                slots.append((hashes[whole] >> np.uint64(20)) % np.uint64(SLOTS))
                places.append(documents[: len(hashes)][whole])
        columns = np.concatenate(slots).astype(np.int32)
        ones = np.ones(len(columns), np.float32)
        parts.append(
            sparse.csr_matrix((ones, (np.concatenate(places), columns)), shape=(len(padded), SLOTS))
        )
    return sparse.vstack(parts, format="csr")
