"""Division: sizes, strata, duplicates and overlaps, independent of the order of rows."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.division import DROPPED, Division, RowKeys, content_hash, divide, quota


def divide_texts(
    texts: list[str], labels: list[int], given: list[int] | None = None, **changes: object
) -> Division:
    options = {"shares": {"validation": 0.1, "test": 0.2}, "limit": None, "seed": 0, **changes}
    rows = RowKeys(
        np.array([content_hash([text]) for text in texts], np.uint64),
        np.array(labels, np.int32),
        np.array(given or [0] * len(texts), np.int8),
    )
    return divide(rows, **options)


def test_alike_but_for_case_width_and_space() -> None:
    assert content_hash(["Straße  ＡＢ\n"]) == content_hash(["strasse ab"])
    assert content_hash(["Cafe\u0301"]) == content_hash(["café"])
    assert content_hash(["ab", "c"]) != content_hash(["a", "bc"])
    assert content_hash([b"A"]) != content_hash([b"a"])


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3)), min_size=30, max_size=150),
    st.randoms(use_true_random=False),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_exact_stratified_and_independent_of_order(
    pairs: list[tuple[int, int]], random: object, seed: int
) -> None:
    rows = [(f"text {number}", number % (label_count + 1)) for number, label_count in pairs]
    label_of = dict(rows[::-1])
    rows = [(text, label_of[text]) for text, _ in rows]
    shuffled = list(rows)
    random.shuffle(shuffled)
    first = divide_texts([t for t, _ in rows], [x for _, x in rows], seed=seed)
    second = divide_texts([t for t, _ in shuffled], [x for _, x in shuffled], seed=seed)
    members = [
        {(t, int(s)) for (t, _), s in zip(r, d.split, strict=True) if s != DROPPED}
        for r, d in ((rows, first), (shuffled, second))
    ]
    assert members[0] == members[1]
    distinct = set(rows)
    assert len(members[0]) == len(distinct)
    assert first.duplicates == len(rows) - len(distinct)
    room = len(distinct) - len({label for _, label in distinct})
    sizes = np.bincount(first.split[first.split >= 0], minlength=3)
    assert sizes[2] == min(max(1, round(0.2 * len(distinct))), room)
    assert sizes[1] == min(max(1, round(0.1 * len(distinct))), room - sizes[2])
    kept = first.split != DROPPED
    labels = np.array([label for _, label in rows])
    for label in set(labels):
        here = first.split[kept & (labels == label)]
        assert np.any(here == 0)
        assert abs(np.count_nonzero(here == 2) - 0.2 * len(here)) <= 1 + 0.3 * len(set(labels))


def test_another_seed_divides_otherwise() -> None:
    texts, labels = [f"text {i}" for i in range(100)], [i % 2 for i in range(100)]
    assert not np.array_equal(
        divide_texts(texts, labels).split, divide_texts(texts, labels, seed=1).split
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 3), st.sampled_from([0, 0, 0, 1, 2])),
        min_size=1,
        max_size=80,
    ),
    st.randoms(use_true_random=False),
    st.sampled_from([None, 5]),
)
@settings(max_examples=150, deadline=None)
def test_of_conflicting_labels_the_most_frequent_stays_whatever_the_order(
    rows: list[tuple[int, int, int]], random: random.Random, limit: int | None
) -> None:
    """Rows are of content, label and the split they are given for."""
    shuffled = list(rows)
    random.shuffle(shuffled)
    seen = []
    for order in (rows, shuffled):
        texts, labels, parts = zip(*order, strict=True)
        made = divide_texts([f"text {t}" for t in texts], list(labels), list(parts), limit=limit)
        held = zip(texts, labels, made.split.tolist(), strict=True)
        kept = sorted(row for row in held if row[2] != DROPPED)
        seen.append((kept, made.conflicts, made.duplicates, made.limited))
    assert seen[0] == seen[1]
    labels_of: dict[int, Counter[int]] = {}
    for text, label, _ in rows:
        labels_of.setdefault(text, Counter())[label] += 1
    assert seen[0][1] == sum(len(labels) > 1 for labels in labels_of.values())
    held_out = {text for text, _, part in rows if part}
    for text, label, _ in seen[0][0]:
        if text not in held_out:
            counts = labels_of[text]
            assert counts[label] == max(counts.values())
            assert all(counts[other] < counts[label] for other in range(label))


def test_duplicates_and_conflicts_by_hand() -> None:
    texts = ["a", "A", "b", "b ", "c", "a", "d", "e", "e", "e"]
    labels = [0, 0, 1, 0, 1, 1, 0, 0, 2, 2]
    made = divide_texts(texts, labels, shares={"validation": 0.0, "test": 0.0})
    gone = DROPPED
    assert made.split.tolist() == [0, gone, gone, 0, 0, gone, 0, gone, 0, gone]
    assert (made.duplicates, made.conflicts) == (5, 3)


def mix(number: int, start: int) -> int:
    """One round of splitmix64, in whole numbers."""
    number ^= start
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        number = (number ^ (number >> shift)) * factor % 2**64
    return number ^ (number >> 31)


@pytest.mark.parametrize("seed", [0, 7])
def test_what_a_division_of_many_rows_is_made_of(seed: int) -> None:
    """Sizes, shares of each stratum and the order in which rows are drawn, told independently.

    So that the splits of people's data stay as they are from one version to the next.
    """
    texts = [f"review number {i} of a thousand" for i in range(1000)]
    labels = [(i * i) % 7 % 3 for i in range(1000)]
    made = divide_texts(texts, labels, shares={"validation": 0.08, "test": 0.12}, seed=seed)
    assert np.bincount(made.split).tolist() == [800, 80, 120]
    start = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    order = sorted(range(1000), key=lambda i: mix(content_hash([texts[i]]), start))
    for label, count in Counter(labels).items():
        of_label = [made.split[i] for i in order if labels[i] == label]
        test, validation = of_label.count(2), of_label.count(1)
        assert of_label == [2] * test + [1] * validation + [0] * (count - test - validation)
        assert abs(test - 0.12 * count) < 1
        assert abs(validation - 80 * (count - test) / 880) < 1


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0, 1], [0, 1, 2, 0, 1]])
def test_a_handful_of_rows_has_one_in_every_split(labels: list[int]) -> None:
    shares = {"validation": 0.08, "test": 0.12}
    made = divide_texts([f"text {i}" for i in range(len(labels))], labels, shares=shares)
    assert np.bincount(made.split).tolist() == [len(labels) - 2, 1, 1]
    assert {labels[i] for i in np.flatnonzero(made.split == 0)} == set(labels)


def test_three_rows_have_one_in_every_split_where_there_are_no_labels() -> None:
    made = divide_texts(["a", "b", "c"], [0, 0, 0], shares={"validation": 0.08, "test": 0.12})
    assert np.bincount(made.split).tolist() == [1, 1, 1]
    none = divide_texts(["a", "b", "c"], [0, 0, 0], shares={"validation": 0.0, "test": 0.0})
    assert none.split.tolist() == [0, 0, 0]


def test_given_splits_by_hand() -> None:
    #         train: a, b, b, c, d    validation: c, e, e    test: a, e, f, f
    texts = list("abbcd") + list("cee") + list("aeff")
    parts = [0] * 5 + [1] * 3 + [2] * 4
    made = divide_texts(texts, [0] * 12, parts)
    gone = DROPPED
    assert made.split.tolist() == [gone, 0, gone, gone, 0, 1, gone, gone, 2, 2, 2, 2]
    assert made.overlaps == {"train": 2, "validation": 2}
    assert (made.duplicates, made.kept_duplicates) == (1, 1)


def test_only_the_missing_split_is_made() -> None:
    texts = [str(i) for i in range(120)]
    made = divide_texts(texts, [0] * 120, [0] * 100 + [2] * 20)
    assert np.bincount(made.split).tolist() == [90, 10, 20]
    assert set(np.flatnonzero(made.split == 2)) == set(range(100, 120))


def test_limit_keeps_proportions() -> None:
    texts = [str(i) for i in range(200)]
    made = divide_texts(texts, [i % 4 == 0 for i in range(200)], limit=40)
    kept = made.split != DROPPED
    assert (np.count_nonzero(kept), made.limited) == (40, 160)
    assert np.count_nonzero(kept & (np.arange(200) % 4 == 0)) == 10
    assert np.bincount(made.split[kept]).tolist() == [28, 4, 8]
    assert divide_texts(texts, [0] * 200, limit=500).limited == 0


@pytest.mark.parametrize(
    ("counts", "wanted", "expected"),
    [
        ([10, 10], 4, [2, 2]),
        ([9, 1], 3, [3, 0]),
        ([5, 3, 2], 5, [3, 1, 1]),
        ([1, 1, 1], 2, [0, 0, 0]),
        ([2, 8], 9, [1, 7]),
    ],
)
def test_quota_by_hand(counts: list[int], wanted: int, expected: list[int]) -> None:
    assert quota(np.array(counts), wanted).tolist() == expected


# Blocks of neighbours


def in_blocks(labels: list[int], size: int, **changes: object) -> Division:
    options = {"shares": {"validation": 0.1, "test": 0.2}, "limit": None, "seed": 0, **changes}
    count = len(labels)
    rows = RowKeys(
        np.array([content_hash([f"text {row}"]) for row in range(count)], np.uint64),
        np.array(labels, np.int32),
        np.zeros(count, np.int8),
        (np.arange(count) // size).astype(np.int32),
    )
    return divide(rows, **options)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=150), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_neighbours_stay_together_in_blocks(labels: list[int], size: int) -> None:
    split = in_blocks(labels, size).split
    for start in range(0, len(labels), size):
        assert len(set(split[start : start + size])) == 1


def test_a_file_that_is_sorted_by_label_has_all_labels_in_each_split() -> None:
    """1,000 rows: 600 of the one and then 400 of the other, in blocks of 10."""
    made = in_blocks([0] * 600 + [1] * 400, 10)
    assert np.bincount(made.split).tolist() == [700, 100, 200]
    assert np.bincount(made.split[:600]).tolist() == [420, 60, 120]
    other = in_blocks([0] * 600 + [1] * 400, 10, seed=1)
    assert not np.array_equal(made.split, other.split)


# Time


def by_time(times: list[float], **changes: object) -> Division:
    options = {"shares": {"validation": 0.1, "test": 0.2}, "limit": None, "seed": 0, **changes}
    given = options.pop("given", [0] * len(times))
    labels = options.pop("labels", [0] * len(times))
    rows = RowKeys(
        np.arange(len(times), dtype=np.uint64),
        np.array(labels, np.int32),
        np.array(given, np.int8),
        times=np.array(times, float),
    )
    return divide(rows, **options)


@given(st.lists(st.integers(0, 25), min_size=1, max_size=80), st.sampled_from([None, 12]))
@settings(max_examples=100, deadline=None)
def test_no_row_is_earlier_than_any_of_a_split_before_and_ties_stay_together(
    times: list[int], limit: int | None
) -> None:
    made = by_time(times, limit=limit)
    spans = [np.array(times)[made.split == part] for part in range(3)]
    there = [span for span in spans if len(span)]
    for before, after in itertools.pairwise(there):
        assert before.max() < after.min()


def test_shares_in_time_are_exact_where_no_time_occurs_twice() -> None:
    times = np.random.default_rng(0).permutation(50)
    made = by_time(times.tolist())
    assert np.bincount(made.split).tolist() == [35, 5, 10]
    assert sorted(times[made.split == 2]) == list(range(40, 50))
    assert sorted(times[made.split == 1]) == list(range(35, 40))


def test_rows_of_one_time_go_to_the_later_split() -> None:
    made = by_time([1, 2, 3, 4, 5, 6, 7, 8, 8, 8])
    assert made.split.tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 2, 2]


def test_a_limit_keeps_what_is_first_in_time() -> None:
    times = np.random.default_rng(1).permutation(80)
    made = by_time(times.tolist(), limit=20)
    assert sorted(times[made.split != DROPPED]) == list(range(20))
    assert sorted(times[made.split == 2]) == [16, 17, 18, 19]
    assert made.limited == 60


def test_neither_labels_nor_a_seed_play_a_part_in_time() -> None:
    times = np.random.default_rng(2).integers(0, 30, 40).tolist()
    plain = by_time(times).split
    other = by_time(times, labels=list(range(40)), seed=9).split
    assert plain.tolist() == other.tolist()


def test_of_a_given_test_split_the_times_do_not_matter() -> None:
    """The source says what the test is; the validation split is the end of the training rows."""
    made = by_time([*range(10), *range(10)], given=[0] * 10 + [2] * 10)
    assert made.split.tolist() == [0] * 9 + [1] + [2] * 10


# Duplicates that are to stay


def test_where_duplicates_are_kept_every_row_has_a_split() -> None:
    texts = ["the same"] * 30 + [f"text {row}" for row in range(20)]
    made = divide_texts(texts, [0] * 50, [0] * 40 + [2] * 10, keep_duplicates=True)
    assert (made.duplicates, made.kept_duplicates, made.conflicts, made.overlaps) == (0, 0, 0, {})
    assert np.bincount(made.split).tolist() == [36, 4, 10]
