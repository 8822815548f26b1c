"""Rows that belong together stay together, and nothing but contents decides where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.division import Division, RowKeys, content_hash, divide
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


def by_user(
    users: list[int], labels: list[int], texts: list[str] | None = None, **changes: object
) -> Division:
    """Divided 70/10/20, with the rows of a user together."""
    options = {"shares": {"validation": 0.1, "test": 0.2}, "limit": None, "seed": 0, **changes}
    texts = texts or [f"text {row}" for row in range(len(users))]
    rows = RowKeys(
        np.array([content_hash([text]) for text in texts], np.uint64),
        np.array(labels, np.int32),
        np.zeros(len(users), np.int8),
        connected_groups(np.array([users], np.uint64)),
    )
    return divide(rows, **options)


ROWS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=120)


@given(ROWS, st.integers(0, 3), st.sampled_from([None, 10]))
@settings(deadline=None)
def test_the_rows_of_a_user_are_never_on_both_sides(
    rows: list[tuple[int, int]], seed: int, limit: int | None
) -> None:
    users, labels = (list(column) for column in zip(*rows, strict=True))
    made = by_user(users, labels, seed=seed, limit=limit)
    for user in set(users):
        here = made.split[np.array(users) == user]
        assert len(set(here[here >= 0])) <= 1


@given(ROWS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_rows_does_not_change_a_division_by_groups(
    rows: list[tuple[int, int]], random: object
) -> None:
    named = [(f"text {number}", *row) for number, row in enumerate(rows)]
    shuffled = list(named)
    random.shuffle(shuffled)
    found = []
    for order in (named, shuffled):
        texts, users, labels = (list(column) for column in zip(*order, strict=True))
        found.append(dict(zip(texts, by_user(users, labels, texts).split, strict=True)))
    assert found[0] == found[1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_splits_by_user_have_about_their_shares_of_each_label(seed: int) -> None:
    """Users have 1 to 8 rows, all with the same label; a third of the rows has the second one."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 9, 200)
    users = np.repeat(np.arange(200), sizes)
    labels = (users % 3 == 0).astype(int)
    made, count = by_user(users.tolist(), labels.tolist(), seed=seed), len(users)
    for part, share in ((1, 0.1), (2, 0.2)):
        assert round(share * count) - 8 < np.count_nonzero(made.split == part) <= share * count + 1
        for label in (0, 1):
            wanted = share * np.count_nonzero(labels == label)
            here = np.count_nonzero((made.split == part) & (labels == label))
            assert abs(here - wanted) < 3 * 8  # what is left open by two labels, and by the test


def test_many_labels_of_few_rows_do_not_leave_a_split_nearly_empty() -> None:
    """Of each of 10 labels a test of 16 rows may have 1.6, and users have 2."""
    users = np.repeat(np.arange(100), 2)
    made = by_user(users.tolist(), (users % 10).tolist(), shares={"validation": 0.0, "test": 0.08})
    assert np.count_nonzero(made.split == 2) == 16
    assert len(set((users % 10)[made.split == 2])) == 8


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([100] * 10, [700, 100, 200]),
        ([20] * 60, [840, 120, 240]),
        ([40] * 5, [120, 40, 40]),
        ([10, 10, 10], [10, 10, 10]),
        ([60, 30, 10], [60, 30, 10]),
    ],
)
def test_of_a_few_large_groups_each_split_has_some(sizes: list[int], expected: list[int]) -> None:
    users = np.repeat(np.arange(len(sizes)), sizes)
    made = by_user(users.tolist(), [0] * len(users))
    assert np.bincount(made.split).tolist() == expected


def test_large_groups_are_learnt_from_where_small_ones_are_enough() -> None:
    """One chain of 300 rows, and 200 rows alone, of which 150 are wanted."""
    users = [0] * 300 + list(range(1, 201))
    made = by_user(users, [0] * 500, shares={"validation": 0.1, "test": 0.2})
    assert not made.split[:300].any()
    assert np.bincount(made.split).tolist() == [350, 50, 100]


def test_a_label_that_one_user_has_alone_is_learnt() -> None:
    users = np.repeat(np.arange(40), 5)
    labels = (users == 7).astype(int)
    for seed in range(20):
        made = by_user(users.tolist(), labels.tolist(), seed=seed)
        assert not made.split[labels == 1].any()
