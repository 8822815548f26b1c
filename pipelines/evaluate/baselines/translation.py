"""What translation scores without a network: the source copied, the nearest source's target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.core.contracts import Split
from pipelines.evaluate.baselines._texts import SLOTS, read_texts, select_texts

if TYPE_CHECKING:
    from scipy import sparse


EXAMPLES = 100_000
"""Training examples among which the nearest is looked for, spread evenly over all of them."""


NGRAMS = (2, 3, 4)
"""Lengths in characters of what two sources have in common, in scripts with spaces and without."""


CELLS = 10_000_000
"""Similarities held at once: about 80 MB."""


def translation_baselines(
    train: Split, test: Split, *, source: str, target: str
) -> dict[str, dict[str, np.ndarray]]:
    """Texts (N,) for the test examples, by the name of the system; raw columns are named."""
    rows = np.linspace(0, len(train) - 1, min(EXAMPLES, len(train))).astype(int)
    sources, targets = (
        list(select_texts(read_texts(train.raw(name)), rows)) for name in (source, target)
    )
    asked = list(read_texts(test.raw(source)))
    nearest = np.array([targets[row] for row in nearest_texts(sources, asked)], object)
    some = "" if len(rows) == len(train) else f" of {len(rows):,}"
    return {
        "source copied": {"translation": np.array(asked, object)},
        f"nearest{some} training sentence{'s' if some else ''}": {"translation": nearest},
    }


def nearest_texts(known: Sequence[str], asked: Sequence[str]) -> np.ndarray:
    """For each text asked (N,) the number of the most similar known one, the first among equals.

    By the cosine of tf-idf weighted character n-grams.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    counts = _character_ngrams(known)
    weigh = TfidfTransformer(sublinear_tf=True).fit(counts)
    by_feature = weigh.transform(counts).T.tocsr()
    answers = np.zeros(len(asked), int)
    size = max(1, CELLS // len(known))
    for start in range(0, len(asked), size):
        part = weigh.transform(_character_ngrams(asked[start : start + size]))
        answers[start : start + size] = np.asarray((part @ by_feature).argmax(axis=1)).ravel()
    return answers


def _character_ngrams(texts: Sequence[str], *, chunk: int = 20_000) -> sparse.csr_matrix:
    """How often each n-gram occurs in each text (N, SLOTS), hashed as in `_Bag`."""
    from scipy import sparse

    parts = []
    for start in range(0, len(texts), chunk):
        padded = [f" {' '.join(text.lower().split())} " for text in texts[start : start + chunk]]
        characters = np.frombuffer("".join(padded).encode("utf-32-le", "replace"), np.uint32)
        documents = np.repeat(np.arange(len(padded)), [len(text) for text in padded])
        slots, places = [], []
        hashed = np.zeros(len(characters), np.uint64)
        for n in range(1, max(NGRAMS) + 1):
            hashed = hashed[: len(characters) - n + 1] + characters[n - 1 :]
            hashed *= np.uint64(0x9E3779B97F4A7C15)
            if n in NGRAMS:
                whole = documents[: len(hashed)] == documents[n - 1 :]
                slots.append((hashed[whole] >> np.uint64(20)) % np.uint64(SLOTS))
                places.append(documents[: len(hashed)][whole])
        columns = np.concatenate(slots).astype(np.int32)
        ones = np.ones(len(columns), np.float32)
        parts.append(
            sparse.csr_matrix((ones, (np.concatenate(places), columns)), shape=(len(padded), SLOTS))
        )
    return sparse.vstack(parts, format="csr")
