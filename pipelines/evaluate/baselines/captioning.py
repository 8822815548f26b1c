"""What a naive system would say of a picture: the bar that a captioner has to clear.

The caption that training has most often, and that of the training picture that looks most alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from pipelines.core.contracts import Split
from pipelines.evaluate.metrics.generation import as_texts

PICTURES = 50_000
"""Training pictures among which the nearest is looked for, spread evenly over all of them."""

CELLS = 16
"""Pictures are compared as this many by this many means of their pixels."""

BLOCK = 250
"""Pictures that are read, or looked for, at once: with PICTURES known 50 MB of distances."""

Look = Callable[[np.ndarray], np.ndarray]
"""From rows (n,) to their pictures: (n, H, W, 3) uint8, or features of any shape, channels last."""


def caption_baselines(
    train: Split, test: Split, *, image: str, captions: str, answer: str = "caption"
) -> dict[str, dict[str, np.ndarray]]:
    """Captions (N,) for the test examples, by the name of the system.

    image     the field: pixels (H, W, C), or features of another network.
    captions  the raw column, one caption a line; of the nearest picture the first is taken.
    answer    what a prediction is called.
    """
    rows = np.linspace(0, len(train) - 1, min(PICTURES, len(train))).astype(int)
    nearest = nearest_pictures(
        lambda part: train.gather(part)[image],
        rows,
        lambda part: test.gather(part)[image],
        np.arange(len(test)),
    )
    counts: Counter[str] = Counter()
    firsts: list[str] = []
    for lines in _captions(train, captions):
        counts.update(lines)
        firsts.append(lines[0] if lines else "")
    frequent = counts.most_common(1)[0][0] if counts else ""
    some = "" if len(rows) == len(train) else f" of {len(rows):,}"
    return {
        "most frequent training caption": {answer: np.array([frequent] * len(test), object)},
        f"nearest{some} training picture{'s' if some else ''}": {
            answer: np.array([firsts[row] for row in nearest], object)
        },
    }


def nearest_pictures(
    known: Look, rows: np.ndarray, asked: Look, asked_rows: np.ndarray
) -> np.ndarray:
    """For each picture asked (M,) the row of the most similar known one, the first of equals.

    By the distance of means of pixels; of features, by the cosine of their means over the grid.
    Besides a block of pictures only what is compared is held: 3 kB a known picture of pixels.
    """
    table = np.concatenate([_compared(known(part)) for part in _blocks(rows)])
    squares = (table**2).sum(1)
    found = []
    for part in _blocks(asked_rows):
        # |a - b|² without |a|², which is the same for all b.
        distances = squares - 2 * _compared(asked(part)) @ table.T
        found.append(rows[distances.argmin(1)])
    return np.concatenate(found)


def _compared(pictures: np.ndarray) -> np.ndarray:
    """What pictures are compared by: (B, ...) to (B, D) float32."""
    if pictures.dtype == np.uint8:
        down, across = (_means(size) for size in pictures.shape[1:3])
        values = pictures.astype(np.float32) / 255
        small = np.einsum("ih,bhwc,jw->bijc", down, values, across, optimize=True)
        return small.reshape(len(pictures), -1)
    features = pictures.astype(np.float32)
    pooled = features.mean(tuple(range(1, features.ndim - 1)))
    return pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-9)


def _means(size: int) -> np.ndarray:
    """(CELLS, size): shares of the pixels in each cell's mean, each row adding up to 1."""
    cells = min(CELLS, size)
    edges = np.linspace(0, size, cells + 1)
    pixels = np.arange(size)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(shares, 0) * cells / size).astype(np.float32)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


def _captions(split: Split, column: str) -> Iterator[list[str]]:
    """Of each example its captions, without what is blank."""
    for batch in split.raw(column):
        for text in as_texts(batch):
            lines = (" ".join(line.split()) for line in text.splitlines())
            yield [line for line in lines if line]
