"""Weights that are estimated from all training texts at once, before a network is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from models.embedding import Embedding
from models.ngram_training import epochs_for, train_weights
from models.ngrams import NgramLogits
from pipelines.core.contracts import Split
from pipelines.data.codecs.ngrams import ngram_matrix
from pipelines.data.corpus_vectors import vectors_of_corpus
from pipelines.runs.progress import Bar

ROWS = 2048
"""Training examples that are read at once."""


def start_from_corpus(
    layers: Sequence[Embedding], train: Split, field: str, *, scale: float, seed: int
) -> None:
    """Starts embeddings of one vocabulary from vectors learnt of neighbouring words in the texts.

    field  holds the texts' ids.
    scale  root mean square of the vectors' numbers. Words without a vector keep their own.
    """
    words, width = layers[0].matrix.shape
    with Bar("learn word vectors", len(train), "texts") as bar:
        texts = read_column(train, field, bar.advance)
        norm = scale * math.sqrt(width)
        vectors = vectors_of_corpus(texts, words, width, norm=norm, seed=seed)
    known = vectors.any(axis=1, keepdims=True)
    for layer in layers:
        layer.matrix.assign(np.where(known, vectors, layer.matrix.numpy()))


def train_ngrams(
    layer: NgramLogits,
    ids: Iterable[np.ndarray],
    labels: np.ndarray,
    weights: np.ndarray,
    *,
    seed: int,
) -> None:
    """Trains the weights of the n-grams whose ids texts have, (B, G) of some texts after others.

    labels (N,) int, weights (N,) how much each text counts.
    """
    texts = ngram_matrix(ids, layer.rows)
    total = epochs_for(len(labels)) * len(labels)
    with Bar("train n-grams", total, "texts") as bar:
        learnt = train_weights(
            texts, labels, layer.classes, weights=weights, seed=seed, progress=bar.advance
        )
    layer.matrix.assign(learnt.T)


def read_column(
    split: Split, field: str, advance: Callable[[int], None] | None = None
) -> Iterator[np.ndarray]:
    """The field of all rows, some rows at once; `advance` is called with their number."""
    for start in range(0, len(split), ROWS):
        rows = np.arange(start, min(start + ROWS, len(split)))
        yield split.gather(rows)[field]
        if advance is not None:
            advance(len(rows))
