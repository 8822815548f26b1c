"""Rows that belong together, which go to the same split: a speaker's, or a film's."""

from __future__ import annotations

import numpy as np

LARGE = 10
"""A group of more rows than this and than a tenth of the rows to draw is drawn after all others."""


def connected_groups(values: np.ndarray) -> np.ndarray:
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


def draw_groups(
    ranks: np.ndarray, group: np.ndarray, strata: np.ndarray, rows: np.ndarray, count: int
) -> np.ndarray:
    """At most `count` of the rows, as whole groups, of any size with the same probability.

    If all groups are too large for that, it is the one nearest in size.

    ranks (N,) uint64, a random order of contents; group (N,) int, the group of each row; strata
    (N,) int: groups are drawn from each stratum by its share of the rows, where a group counts as
    of the stratum that most of its rows have. What whole groups leave open of a share is left to
    the next stratum, of which a group always stays. Large groups come last, where small ones are
    not enough: of a data set of which one chain of everyday phrases ties half, that half is to be
    learnt from.
    """
    if count <= 0 or not len(rows):
        return rows[:0]
    rows = rows[np.argsort(group[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(group[rows], prepend=-1))
    sizes = np.diff(starts, append=len(rows))
    order = _random_order(np.minimum.reduceat(ranks[rows], starts), sizes)
    order = order[np.argsort(sizes[order] > max(LARGE, count // 10), kind="stable")]
    of_group = _most_frequent(strata[rows], starts, sizes)
    chosen = np.zeros(len(starts), bool)
    room = 0.0
    for stratum in np.unique(of_group):
        here = order[of_group[order] == stratum]
        room += count * sizes[here].sum() / len(rows)
        for index in here[:-1]:
            if sizes[index] <= room + 1e-6:
                chosen[index], room = True, room - sizes[index]
            if room < 1 - 1e-6:
                break
    if not chosen.any() and len(starts) > 1:
        # A few large groups, such as five speakers: one of them, of about the size to draw.
        chosen[order[np.argmin(np.abs(sizes[order] - count))]] = True
    return rows[np.repeat(chosen, sizes)]


def count_groups(group: np.ndarray | None, used: np.ndarray) -> dict[str, int | None]:
    """The number of groups, and the size of the largest, of the rows that are used (N,) bool."""
    if group is None:
        return {"groups": None, "largest_group": None}
    _, sizes = np.unique(group[used], return_counts=True)
    return {"groups": len(sizes), "largest_group": int(sizes.max())}


def _random_order(least: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(G,) groups by the probability that of so many ranks the least is as small as it is.

    By the least rank itself a user of many rows would come before those of few, and the test split
    would hold none of these. least (G,) uint64.
    """
    share = least / 2.0**64
    with np.errstate(divide="ignore"):
        probability = -np.expm1(sizes * np.log1p(-share))
    return np.lexsort((least, probability))


def _most_frequent(strata: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(G,) the stratum that most rows of each group have; the least of equally frequent ones."""
    group = np.repeat(np.arange(len(starts)), sizes)
    order = np.lexsort((strata, group))
    sorted_group, sorted_strata = group[order], strata[order]
    new = np.diff(sorted_group, prepend=-1) != 0
    new |= np.diff(sorted_strata, prepend=sorted_strata[:1]) != 0
    places = np.flatnonzero(new)
    counts = np.diff(places, append=len(order))
    best = np.lexsort((sorted_strata[places], -counts, sorted_group[places]))
    _, first = np.unique(sorted_group[places][best], return_index=True)
    return sorted_strata[places][best][first]
