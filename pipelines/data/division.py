"""Which rows go to which split, so that nothing related is on both sides.

hash    every row by a hash of its content: exact in size, stratified, whatever the rows' order.
groups  rows with the same value in a column stay together: a speaker, a user, a film.
blocks  neighbouring rows stay together, where a file's order says what is related.
time    the last rows in time are the test split, and those before them the validation split.

A source that brings its own splits keeps them; what it lacks is drawn from its training part.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.core.types import Value
from pipelines.data.groups import draw_groups

PARTS = ("train", "validation", "test")
DROPPED = -1


@dataclass(frozen=True, eq=False)
class Division:
    """split (N,) int8: a place in PARTS, or DROPPED; the rest are numbers of rows.

    duplicates  dropped from train (or from all, where we divide): the same as a row that stays.
    conflicts   contents that occur with more than one stratum, such as a text with two labels. In
                train the most frequent one stays, and of equally frequent ones the lowest.
    overlaps    dropped from a given split because they also are in the later one, by name.
    kept_duplicates  left in given validation and test splits, so that their scores compare with
                     published ones.
    limited     dropped by the limit.
    """

    split: np.ndarray
    duplicates: int
    conflicts: int
    overlaps: Mapping[str, int]
    kept_duplicates: int
    limited: int


def content_hash(values: Iterable[Value]) -> int:
    """64 bits of one row's identity. Text counts in NFKC, case-folded, with single spaces."""
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        if isinstance(value, bytes):
            data = value
        else:
            text = str(value)
            if not text.isascii():
                text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
            data = " ".join(text.casefold().split()).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return int.from_bytes(digest.digest(), "little")


@dataclass(frozen=True, eq=False)
class RowKeys:
    """The keys that decide where a row goes, (N,) each.

    hashes  uint64, of the contents that tell rows apart.
    strata  int32, the rank of the row's stratum among all.
    given   int8, a place in PARTS: the split that the source puts it in, or train if we divide.
    groups  int32: rows of one group go to the same of the splits that we draw. None: each alone.
    times   float64: later rows go to later splits. None where time plays no part.
    """

    hashes: np.ndarray
    strata: np.ndarray
    given: np.ndarray
    groups: np.ndarray | None = None
    times: np.ndarray | None = None


def divide(
    rows: RowKeys,
    *,
    shares: Mapping[str, float],
    limit: int | None,
    seed: int,
    keep_duplicates: bool = False,
) -> Division:
    """Every row's split.

    Shares are of the rows given for training, once duplicates are dropped; those of splits that are
    given are not looked at. A share above 0 is at least one row, and without groups or times each
    stratum keeps a row in train. With groups or times splits may differ a little from their shares,
    since groups, and rows of one time, stay whole.
    """
    split = rows.given.astype(np.int8)
    counts: tuple[int, int, int, dict[str, int]] = (0, 0, 0, {})
    if not keep_duplicates:
        counts = _drop_duplicates(rows.hashes, rows.strata, split)
    duplicates, kept_duplicates, conflicts, overlaps = counts
    ranks = _mix(rows.hashes, seed)
    before = np.count_nonzero(split != DROPPED)
    if limit is not None and limit < before:
        _drop_beyond(rows, ranks, split, limit / before)
    limited = int(before - np.count_nonzero(split != DROPPED))
    pool = np.count_nonzero(split == 0)
    for part in (2, 1):
        if not np.any(rows.given == part):
            train, share = np.flatnonzero(split == 0), shares[PARTS[part]]
            count = max(1, round(pool * share)) if share > 0 else 0
            split[_choose_held_out(rows, ranks, train, count)] = part
    return Division(split, duplicates, conflicts, overlaps, kept_duplicates, limited)


def _choose_held_out(rows: RowKeys, ranks: np.ndarray, train: np.ndarray, count: int) -> np.ndarray:
    """About `count` of the training rows, which leave nothing related behind."""
    if rows.times is not None:
        return _choose_latest(rows.times, train, count)
    if rows.groups is not None:
        return draw_groups(ranks, rows.groups, rows.strata, train, count)
    return _draw(ranks, rows.strata, train, count)


def _choose_latest(times: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """The last rows in time; those of one time stay together, on the later side."""
    if count <= 0 or not len(rows):
        return rows[:0]
    border = np.sort(times[rows])[-min(count, len(rows))]
    return rows[times[rows] >= border]


def _drop_beyond(rows: RowKeys, ranks: np.ndarray, split: np.ndarray, share: float) -> None:
    """Leaves about this share of each split, at least a row: with times the first, else drawn."""
    for part in range(len(PARTS)):
        here = np.flatnonzero(split == part)
        surplus = len(here) - max(min(len(here), 1), round(len(here) * share))
        if rows.times is not None:
            order = here[np.argsort(rows.times[here], kind="stable")]
            split[order[len(here) - surplus :]] = DROPPED
        else:
            split[_draw(ranks, rows.strata, here, surplus)] = DROPPED


def _drop_duplicates(
    hashes: np.ndarray, strata: np.ndarray, split: np.ndarray
) -> tuple[int, int, int, dict[str, int]]:
    """Marks repeated rows in `split`. Returns duplicates, kept duplicates, conflicts, overlaps."""
    order = np.argsort(hashes, kind="stable")
    sorted_hashes = hashes[order]
    first = np.ones(len(order), bool)
    first[1:] = sorted_hashes[1:] != sorted_hashes[:-1]
    if first.all():
        return 0, 0, 0, {}
    group = (np.cumsum(first) - 1).astype(np.int32)
    starts = np.flatnonzero(first)
    sorted_strata = strata[order]
    lowest = np.minimum.reduceat(sorted_strata, starts)
    conflicting = np.maximum.reduceat(sorted_strata, starts) != lowest
    sorted_split = split[order]
    latest = np.maximum.reduceat(sorted_split, starts)[group]
    overlaps = {}
    for part, name in enumerate(PARTS[:2]):
        over = (sorted_split == part) & (latest > part)
        if over.any():
            overlaps[name] = int(np.count_nonzero(over))
    over = sorted_split < latest
    training = sorted_split == 0
    # A content that is left in train is nowhere else, so that all of its rows have a say.
    stays = np.zeros(len(order), bool)
    stays[_representatives(group, starts, sorted_strata, conflicting)] = True
    is_duplicate = training & ~over & ~stays
    split[order[over | is_duplicate]] = DROPPED
    held_out = ~training & ~over
    kept = np.count_nonzero(held_out) - len(np.unique(group[held_out]))
    return int(np.count_nonzero(is_duplicate)), int(kept), int(conflicting.sum()), overlaps


def _representatives(
    group: np.ndarray, starts: np.ndarray, strata: np.ndarray, conflicting: np.ndarray
) -> np.ndarray:
    """(G,) the row that stays of each group: the first with the group's most frequent stratum.

    group, strata (N,) of rows in the order of their groups, which start at starts (G,).
    """
    rows = np.flatnonzero(conflicting[group])
    rows = rows[np.lexsort((strata[rows], group[rows]))]
    new = (np.diff(group[rows], prepend=-1) != 0) | (np.diff(strata[rows], prepend=-1) != 0)
    firsts, counts = rows[new], np.diff(np.flatnonzero(new), append=len(rows))
    firsts = firsts[np.lexsort((strata[firsts], -counts, group[firsts]))]
    groups, best = np.unique(group[firsts], return_index=True)
    chosen = starts.copy()
    chosen[groups] = firsts[best]
    return chosen


def _mix(hashes: np.ndarray, seed: int) -> np.ndarray:
    """(N,) uint64: a random order of contents (splitmix64, Steele et al. 2014)."""
    start = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        bits = hashes ^ start
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return bits ^ (bits >> np.uint64(31))


def _draw(ranks: np.ndarray, strata: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """`count` of the rows, spread over their strata, each of which keeps at least one row."""
    if count <= 0 or not len(rows):
        return rows[:0]
    order = rows[np.lexsort((ranks[rows], strata[rows]))]
    _, starts, counts = np.unique(strata[order], return_index=True, return_counts=True)
    quotas = quota(counts, count)
    place = np.arange(len(order)) - np.repeat(starts, counts)
    return order[place < np.repeat(quotas, counts)]


def quota(counts: np.ndarray, total: int) -> np.ndarray:
    """Numbers to take of each group, leaving at least one in each.

    Proportional, largest remainders first (Hamilton's method); together `total`, or as many as
    there are.
    """
    room = counts - 1
    exact = counts * (total / max(int(counts.sum()), 1))
    quotas = np.minimum(np.floor(exact).astype(np.int64), room)
    missing = min(total, int(room.sum())) - int(quotas.sum())
    while missing > 0:
        open_groups = np.flatnonzero(quotas < room)
        by_need = open_groups[np.argsort((quotas - exact)[open_groups], kind="stable")][:missing]
        quotas[by_need] += 1
        missing -= len(by_need)
    return quotas
