"""Captions of naive systems, which a captioner has to beat.

One gives every image the most frequent caption of the training set; the other gives it the first
caption of the most similar training image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from pipelines.core.contracts import Split
from pipelines.evaluate.metrics.generation import as_texts

MAX_TRAINING_IMAGES = 50_000
"""Most training images that are searched for the nearest one, spread evenly over all of them."""

GRID = 16
"""Images are compared by the mean colours of this many by this many cells."""

BLOCK = 250
"""Images that are read or searched for together; their distances to all others take 50 MB."""

ReadImages = Callable[[np.ndarray], np.ndarray]
"""From rows (n,) to images (n, H, W, 3) uint8, or to features of any shape, channels last."""


def caption_baselines(
    train: Split, test: Split, *, image: str, captions: str, answer: str = "caption"
) -> dict[str, dict[str, np.ndarray]]:
    """Captions (N,) for the test examples, by the name of the system.

    image     name of the field with pixels (H, W, C), or with features of a network.
    captions  name of the raw column with one caption a line.
    answer    the key of a prediction.
    """
    rows = np.linspace(0, len(train) - 1, min(MAX_TRAINING_IMAGES, len(train))).astype(int)
    nearest = nearest_images(
        lambda part: train.gather(part)[image],
        rows,
        lambda part: test.gather(part)[image],
        np.arange(len(test)),
    )
    counts: Counter[str] = Counter()
    firsts: list[str] = []
    for lines in _caption_lines(train, captions):
        counts.update(lines)
        firsts.append(lines[0] if lines else "")
    frequent = counts.most_common(1)[0][0] if counts else ""
    some = "" if len(rows) == len(train) else f" of {len(rows):,}"
    return {
        "most frequent training caption": {answer: np.array([frequent] * len(test), object)},
        f"nearest{some} training image{'s' if some else ''}": {
            answer: np.array([firsts[row] for row in nearest], object)
        },
    }


def nearest_images(
    read_known: ReadImages, known_rows: np.ndarray, read_queries: ReadImages, query_rows: np.ndarray
) -> np.ndarray:
    """For each query (M,) the row of the most similar known image, the first among equals.

    Pixels are compared by the distance between mean colours of a grid, features by the cosine of
    their means over the grid. Memory holds one block of images and 3 kB for each known one.
    """
    table = np.concatenate([_image_vectors(read_known(part)) for part in _blocks(known_rows)])
    squares = (table**2).sum(1)
    found = []
    for part in _blocks(query_rows):
        # |a - b|² without |a|², which is the same for all b.
        distances = squares - 2 * _image_vectors(read_queries(part)) @ table.T
        found.append(known_rows[distances.argmin(1)])
    return np.concatenate(found)


def _image_vectors(images: np.ndarray) -> np.ndarray:
    """Images or features (B, ...) to the vectors (B, D) float32 that are compared."""
    if images.dtype == np.uint8:
        down, across = (_averaging_matrix(size) for size in images.shape[1:3])
        values = images.astype(np.float32) / 255
        small = np.einsum("ih,bhwc,jw->bijc", down, values, across, optimize=True)
        return small.reshape(len(images), -1)
    features = images.astype(np.float32)
    pooled = features.mean(tuple(range(1, features.ndim - 1)))
    return pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-9)


def _averaging_matrix(size: int) -> np.ndarray:
    """(GRID, size): shares of the pixels in each cell's mean, each row adding up to 1."""
    cells = min(GRID, size)
    edges = np.linspace(0, size, cells + 1)
    pixels = np.arange(size)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(shares, 0) * cells / size).astype(np.float32)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


def _caption_lines(split: Split, column: str) -> Iterator[list[str]]:
    """The captions of each example, without blank ones."""
    for batch in split.raw(column):
        for text in as_texts(batch):
            lines = (" ".join(line.split()) for line in text.splitlines())
            yield [line for line in lines if line]
