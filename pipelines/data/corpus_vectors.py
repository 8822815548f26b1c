"""Word vectors of the training texts themselves: what words stand next to, in few numbers.

Two words get similar vectors if they have similar neighbours. How often two words are neighbours is
compared with chance (positive pointwise mutual information), and the matrix of all words by all
words is factorized: this is what word2vec and GloVe do too, step by step (Levy, Goldberg & Dagan
2015, "Improving Distributional Similarity with Lessons Learned from Word Embeddings").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from pipelines.data.codecs.special_ids import UNKNOWN

if TYPE_CHECKING:
    from scipy import sparse

WINDOW = 8
"""Words at most so far apart are neighbours; at distance d they count 1 / d."""

SMOOTHING = 0.75
"""Power of a neighbour's frequency, without which rare words would have extreme values."""

OVERSAMPLING, ITERATIONS = 16, 3
"""Of the randomized factorization (Halko, Martinsson & Tropp 2011, algorithm 4.4)."""


def vectors_of_corpus(
    texts: Iterable[np.ndarray], vocabulary_size: int, width: int, *, norm: float, seed: int
) -> np.ndarray:
    """Vectors (V, D) float32, 0 for words that have no neighbours.

    texts  padded ids (B, T) each, 0 padding; the unknown word is nobody's neighbour.
    norm   the root mean square of the vectors' lengths.
    """
    counts = count_neighbours(texts, vocabulary_size)
    vectors = np.zeros((vocabulary_size, width), np.float32)
    rank = min(width, vocabulary_size)
    known = np.diff(counts.indptr) > 0
    vectors[known, :rank] = _factorize(mutual_information(counts), rank, seed)[known]
    mean = np.sqrt(np.square(vectors[known]).sum(1).mean()) if known.any() else 0.0
    return vectors * np.float32(norm / mean) if mean > 0 else vectors


def count_neighbours(texts: Iterable[np.ndarray], vocabulary_size: int) -> sparse.csr_matrix:
    """(V, V) symmetric: how often two words are neighbours, near ones counting more."""
    from scipy import sparse

    shape = (vocabulary_size, vocabulary_size)
    # Matrices of about one size are added up, so that a large one is copied rarely.
    sums: list[sparse.csr_matrix] = []
    for ids in texts:
        found = []
        for distance in range(1, min(WINDOW, ids.shape[1] - 1) + 1):
            left, right = ids[:, :-distance], ids[:, distance:]
            real = (left > UNKNOWN) & (right > UNKNOWN)
            pairs = left[real].astype(np.int64) * vocabulary_size + right[real]
            found.append((pairs, np.full(len(pairs), 1 / distance, np.float32)))
        if not found:
            continue
        pairs, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
        rows, columns = np.divmod(pairs, vocabulary_size)
        sums.append(sparse.csr_matrix((weights, (rows, columns)), shape))
        while len(sums) > 1 and sums[-2].nnz < 2 * sums[-1].nnz:
            last = sums.pop()
            sums[-1] = sums[-1] + last
    total = sum(reversed(sums), sparse.csr_matrix(shape, dtype=np.float32))
    return (total + total.T).tocsr()


def mutual_information(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """max(0, log(P(word, neighbour) / (P(word) P(neighbour)))) of each pair that occurs."""
    from scipy import sparse

    of_word = np.asarray(counts.sum(1), np.float64)[:, 0]
    of_neighbour = of_word**SMOOTHING
    of_neighbour /= max(of_neighbour.sum(), 1e-9)
    pairs = counts.tocoo()
    values = np.log(pairs.data / (of_word[pairs.row] * of_neighbour[pairs.col]))
    positive = values > 0
    place = (pairs.row[positive], pairs.col[positive])
    return sparse.csr_matrix((values[positive].astype(np.float32), place), counts.shape)


def _factorize(matrix: sparse.csr_matrix, rank: int, seed: int) -> np.ndarray:
    """(V, rank): the left singular vectors times the roots of the singular values."""
    size = matrix.shape[0]
    basis = np.random.default_rng(seed).normal(size=(size, min(rank + OVERSAMPLING, size)))
    basis = np.linalg.qr(matrix @ basis.astype(np.float32))[0]
    for _ in range(ITERATIONS):
        basis = np.linalg.qr(matrix.T @ basis)[0]
        basis = np.linalg.qr(matrix @ basis)[0]
    left, values, _ = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    vectors: np.ndarray = (basis @ left)[:, :rank] * np.sqrt(values[:rank])
    return vectors
