"""Rows that belong together go to the same split: a sentence with all of its translations."""

from __future__ import annotations

import numpy as np

LARGE = 10
"""A group of more rows than this is drawn only if it is no more than a tenth of what is wanted."""


def tied(values: np.ndarray) -> np.ndarray:
    """The group of each row, (N,) int32: the least row it is tied to, by any chain of values.

    values (C, N) uint64: rows with the same value in a column are tied.
    """
    groups = []
    for column in values:
        order = np.argsort(column, kind="stable")
        same = column[order]
        first = np.ones(len(order), bool)
        first[1:] = same[1:] != same[:-1]
        alone = first.copy()
        alone[:-1] &= first[1:]
        order, starts = order[~alone].astype(np.int32), np.flatnonzero(first[~alone])
        if len(starts):
            groups.append((order, starts, np.diff(starts, append=len(order))))
    label = np.arange(values.shape[1], dtype=np.int32)
    while True:
        before, label = label, label.copy()
        for order, starts, counts in groups:
            label[order] = np.repeat(np.minimum.reduceat(label[order], starts), counts)
        label = label[label]
        if np.array_equal(label, before):
            return label


def draw_whole(ranks: np.ndarray, label: np.ndarray, rows: np.ndarray, wanted: int) -> np.ndarray:
    """At most `wanted` of the rows, as whole groups in the order of their least rank.

    ranks (N,) uint64, a random order of contents; label (N,), the group of each. Large groups stay:
    one chain of everyday phrases may tie half of a data set.
    """
    if wanted <= 0 or not len(rows):
        return rows[:0]
    rows = rows[np.argsort(label[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(label[rows], prepend=-1))
    sizes = np.diff(starts, append=len(rows))
    order = np.argsort(np.minimum.reduceat(ranks[rows], starts), kind="stable")
    order = order[sizes[order] <= max(LARGE, wanted // 10)]
    taken = order[np.cumsum(sizes[order]) <= wanted]
    chosen = np.zeros(len(starts), bool)
    chosen[taken] = True
    return rows[np.repeat(chosen, sizes)]
