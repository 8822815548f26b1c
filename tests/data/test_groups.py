"""Rows that belong together stay together, and nothing but contents decides where."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.division import RowKeys, divide
from pipelines.data.groups import connected_groups, draw_groups

PAIRS = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=60)


def values(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.asarray(pairs, np.uint64).T


def test_rows_are_tied_by_chains_of_shared_values() -> None:
    """1 and 2 share a source, 2 and 3 a target, 0 and 4 nothing."""
    pairs = [(9, 90), (1, 10), (1, 20), (2, 20), (3, 30)]
    assert connected_groups(values(pairs)).tolist() == [0, 1, 1, 1, 4]


@given(PAIRS)
def test_a_group_is_a_connected_part(pairs: list[tuple[int, int]]) -> None:
    label = list(range(len(pairs)))
    for _ in pairs:  # as many rounds as the longest chain can have
        for one, (a, b) in enumerate(pairs):
            for other, (c, d) in enumerate(pairs):
                if a == c or b == d:
                    label[one] = label[other] = min(label[one], label[other])
    assert connected_groups(values(pairs)).tolist() == label


@given(PAIRS, st.integers(0, 40), st.integers(0, 3))
def test_whole_groups_are_drawn_and_no_more_than_wanted(
    pairs: list[tuple[int, int]], wanted: int, seed: int
) -> None:
    label = connected_groups(values(pairs))
    ranks = np.random.default_rng(seed).permutation(len(pairs)).astype(np.uint64)
    drawn = draw_groups(ranks, label, np.zeros(len(pairs), int), np.arange(len(pairs)), wanted)
    assert len(drawn) <= wanted or len(set(label[drawn])) == 1
    rest = np.setdiff1d(np.arange(len(pairs)), drawn)
    assert not set(label[drawn]) & set(label[rest])


def test_splits_share_no_value_and_have_about_their_shares() -> None:
    random = np.random.default_rng(0)
    pairs = np.stack([random.integers(0, 900, 1000), random.integers(0, 900, 1000)]).astype("u8")
    pairs = pairs[:, np.unique(pairs[0] * 1000 + pairs[1], return_index=True)[1]]
    count = pairs.shape[1]
    # A third of the rows is alone in both columns, so that there is something to draw.
    pairs[:, : count // 3] = np.arange(2 * (count // 3), dtype="u8").reshape(2, -1) + 10_000
    rows = RowKeys(
        pairs[0] * 100_000 + pairs[1],
        np.zeros(count, np.int32),
        np.zeros(count, np.int8),
        connected_groups(pairs),
    )
    divided = divide(rows, shares={"validation": 0.05, "test": 0.1}, limit=None, seed=0)
    for one in range(3):
        for other in range(one):
            for column in pairs:
                here, there = column[divided.split == one], column[divided.split == other]
                assert not set(here) & set(there)
    assert np.count_nonzero(divided.split == 2) in range(round(0.09 * count), count // 10 + 2)
