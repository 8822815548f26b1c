"""Rows about the same thing are found by rare words and by their order, and others stay apart."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.division import RowKeys, content_hash, divide
from pipelines.data.groups import draw_groups
from pipelines.data.rare_words import MOST, RareWordCollector, RareWords
from pipelines.data.related import RelatedRowFinder, find_stretches, related_groups

NONE = np.zeros((0, 2), np.int64)
"""No rows that nearly repeat each other."""


def letters(number: int) -> str:
    """A word of its own for each number."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def collect(texts: Sequence[str], at_once: int = 1000) -> RareWords:
    collector = RareWordCollector()
    for start in range(0, len(texts), at_once):
        collector.add([pa.array(texts[start : start + at_once])])
    return collector.finish()


def rows_of_words(rare: RareWords) -> set[tuple[int, ...]]:
    found: dict[int, list[int]] = {}
    for row, word in zip(rare.row.tolist(), rare.word.tolist(), strict=True):
        found.setdefault(word, []).append(row)
    return {tuple(rows) for rows in found.values()}


def test_rare_words_by_hand() -> None:
    """Heidi is in three rows, wherever it stands and however it is written; Öhi in two."""
    texts = ["Heidi, HEIDI!", "the Öhi's heidi", "<b>heidi</b> the 1937", "öhi's the Alm", "the"]
    assert rows_of_words(collect(texts)) == {(0, 1, 2), (1, 3), (1, 2, 3, 4)}


def test_a_word_of_one_row_or_of_many_is_not_rare() -> None:
    texts = [
        f"everywhere {letters(row)} {'often' if row < MOST else ''}" for row in range(MOST + 1)
    ]
    assert rows_of_words(collect(texts, 7)) == {tuple(range(MOST))}


def test_words_count_alike_in_lists_and_in_several_columns() -> None:
    collector = RareWordCollector()
    collector.add([pa.array([["Heidi", "runs"], ["x"]]), pa.array(["a", "Heidi sleeps"])])
    assert rows_of_words(collector.finish()) == {(0, 1)}


def test_frequent_words_are_forgotten_early_without_a_difference(monkeypatch) -> None:
    texts = [f"everywhere {letters(row // 4)} {letters(row // 90)}{'x'}" for row in range(900)]
    whole = collect(texts)
    monkeypatch.setattr("pipelines.data.rare_words.MOST_HELD", 50)
    again = collect(texts, 10)
    assert np.array_equal(whole.row, again.row)
    assert np.array_equal(whole.word, again.word)


def reviews(films: Sequence[int], seed: int = 0) -> list[str]:
    """Texts of everyday words, each with four of the six names of its film; 0 is no film's."""
    draw = random.Random(seed)
    everyday = [letters(number) + "x" for number in range(1000, 1060)]
    return [
        " ".join(
            draw.sample(everyday, 12)
            + (draw.sample([f"{letters(film)}{name}" for name in "klmnop"], 4) if film else [])
        )
        for film in films
    ]


def groups_of(films: Sequence[int], labels: Sequence[int], seed: int = 0) -> np.ndarray:
    return related_groups(collect(reviews(films, seed)), np.array(labels), NONE)


def test_neighbours_of_one_film_are_one_stretch() -> None:
    """Three films of 4, and rows between them that name nothing."""
    films = [0] * 300 + [1] * 4 + [2] * 4 + [0] * 300 + [3] * 4
    stretch = find_stretches(collect(reviews(films)), np.zeros(len(films), int))
    for film in (1, 2, 3):
        here = set(stretch[np.array(films) == film])
        assert len(here) == 1
        assert np.count_nonzero(stretch == here.pop()) < 12
    assert len(set(stretch)) > 500


def test_what_lies_between_two_rows_of_a_film_is_of_the_film() -> None:
    films = [0] * 300 + [1, 1, 0, 1] + [0] * 300
    stretch = find_stretches(collect(reviews(films)), np.zeros(len(films), int))
    assert len(set(stretch[300:304])) == 1


def test_a_film_under_both_labels_is_one_group() -> None:
    films = [*range(1, 101)] * 3
    films = sorted(films) + sorted(films)
    group = groups_of(films, [0] * 300 + [1] * 300)
    assert len(set(group)) == 100
    for film in range(1, 101):
        assert len(set(group[np.array(films) == film])) == 1


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_films_are_found_whatever_the_order(order: random.Random) -> None:
    films = [*range(1, 101)] * 4
    order.shuffle(films)
    group = groups_of(films, [row % 2 for row in range(400)])
    pure = [len({films[row] for row in np.flatnonzero(group == one)}) == 1 for one in set(group)]
    assert np.mean(pure) > 0.9
    assert len(set(group)) < 160


def test_rows_that_have_nothing_to_do_with_each_other_stay_alone() -> None:
    group = groups_of([0] * 1000, [row % 3 for row in range(1000)])
    assert len(set(group)) > 980


def test_a_group_is_named_by_its_least_row() -> None:
    films = [*range(1, 101)] * 3
    group = groups_of(films, [0] * 300)
    assert all(one == np.flatnonzero(group == one)[0] for one in set(group.tolist()))


def test_no_chain_of_links_makes_a_large_group() -> None:
    """A series of 200 parts, of which each names the part before it."""
    names = [[f"{letters(part)}{name}" for name in "klmn"] for part in range(201)]
    texts = [" ".join(names[part] + names[part + 1]) for part in range(200)]
    order = np.random.default_rng(0).permutation(200)
    rare = collect([texts[part] for part in order] + reviews([0] * 1800))
    _, sizes = np.unique(related_groups(rare, np.zeros(2000, int), NONE), return_counts=True)
    assert 1 < sizes.max() <= 30


def everyday_texts(count: int) -> list[str]:
    """Of 40 of the same 60 words each, in orders of their own: no word is rare."""
    draw = random.Random(0)
    return [" ".join(draw.sample([f"{letters(n)}x" for n in range(60)], 40)) for _ in range(count)]


def test_near_duplicates_stay_together_without_a_rare_word() -> None:
    texts = everyday_texts(200)
    texts[150], texts[199] = texts[3] + " so", "well " + texts[3]
    finder = RelatedRowFinder()
    for part in (texts[:120], texts[120:]):
        finder.add([pa.array(part)])
    group = finder.finish(np.arange(200) % 2)
    assert group[[3, 150, 199]].tolist() == [3, 3, 3]
    assert len(set(group.tolist())) == 198


def test_a_thousand_copies_make_no_large_group() -> None:
    """So that a file of one template still has training rows and others."""
    finder = RelatedRowFinder()
    finder.add([pa.array([everyday_texts(1)[0]] * 1000 + everyday_texts(1000))])
    assert 1 < np.bincount(finder.finish(np.zeros(2000, int))).max() <= 30


@pytest.mark.parametrize("texts", [[], ["one"], ["", ""], ["same words here"] * 3])
def test_a_handful_of_rows(texts: list[str]) -> None:
    rare = collect(texts)
    assert len(related_groups(rare, np.zeros(len(texts), int), NONE)) == len(texts)


def test_no_film_is_in_two_splits() -> None:
    films = sorted([*range(1, 201)] * 4) * 2
    texts = [f"{row} {text}" for row, text in enumerate(reviews(films))]
    labels = np.repeat([0, 1], 800).astype(np.int32)
    rows = RowKeys(
        np.array([content_hash([text]) for text in texts], np.uint64),
        labels,
        np.zeros(1600, np.int8),
        related_groups(collect(texts), labels, NONE),
    )
    split = divide(rows, shares={"validation": 0.1, "test": 0.2}, limit=None, seed=0).split
    assert all(len(set(split[np.array(films) == film])) == 1 for film in range(1, 201))
    assert np.bincount(split).tolist() == [1120, 160, 320]


@pytest.mark.parametrize("seed", range(3))
def test_groups_of_all_sizes_are_drawn_alike(seed: int) -> None:
    """Half of the rows are alone and half in groups of 10: so are those that are drawn."""
    group = np.concatenate([np.arange(4000), np.repeat(np.arange(4000, 4400), 10)])
    ranks = np.random.default_rng(seed).integers(0, 2**64, 8000, np.uint64, endpoint=False)
    drawn = draw_groups(ranks, group, np.zeros(8000, int), np.arange(8000), 1600)
    assert abs(np.count_nonzero(drawn < 4000) - 800) < 3 * np.sqrt(1600 * 10 / 4)


def test_labels_with_words_of_their_own_tie_no_rows() -> None:
    """Labels that are topics: each has its own rare words, spread at random over its 200 rows."""
    order = np.random.default_rng(0)
    strata = order.permutation(np.repeat(np.arange(4), 200))
    texts = [
        " ".join(f"topic{letters(60 * label + number)}" for number in order.integers(0, 60, 3))
        for label in strata
    ]
    assert np.bincount(related_groups(collect(texts), strata, NONE)).max() < 100
