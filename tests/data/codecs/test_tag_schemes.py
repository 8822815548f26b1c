"""Schemes of tags: which one it is, what it says, and what it forbids."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.codecs.tag_schemes import (
    Entity,
    Scheme,
    allowed_tags,
    detect_scheme,
    entities,
    to_bio,
)

ADA = {
    "bio": "B-PER I-PER O B-PER B-PER I-PER O B-LOC",
    "iob1": "I-PER I-PER O I-PER B-PER I-PER O I-LOC",
    "bioes": "B-PER E-PER O S-PER B-PER E-PER O S-LOC",
    "bilou": "B-PER L-PER O U-PER B-PER L-PER O U-LOC",
}
"""The same entities in each scheme: Ada Lovelace, and next to each other Grace and Mary Hopper."""


@pytest.mark.parametrize("scheme", ADA)
def test_each_scheme_is_recognized_and_says_the_same(scheme: Scheme) -> None:
    tags = ADA[scheme].split()
    assert detect_scheme([tags]) == scheme
    made = to_bio(tags, scheme)
    assert made == ADA["bio"].split()
    assert entities(made) == entities(made, strict=True)
    assert entities(made) == [
        Entity(0, 2, "PER"), Entity(3, 4, "PER"), Entity(4, 6, "PER"), Entity(7, 8, "LOC")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "tags", ["NOUN VERB", "O O", "", "I-PER NN", "IN SYM -LRB-", "B I O", "B-"]
)
def test_labels_of_no_entities_have_no_scheme(tags: str) -> None:
    assert detect_scheme([tags.split()]) == "none"


def test_an_entity_without_a_beginning_makes_bio_no_other_scheme() -> None:
    assert detect_scheme([["B-PER", "O"], ["O", "I-PER"]]) == "bio"


def test_a_broken_sequence_counts_by_conlleval_and_not_strictly() -> None:
    tags = ["I-PER", "I-PER", "O", "B-LOC", "I-PER", "I-LOC", "B-LOC", "I-LOC"]
    assert entities(tags) == [
        Entity(0, 2, "PER"), Entity(3, 4, "LOC"), Entity(4, 5, "PER"), Entity(5, 6, "LOC"),
        Entity(6, 8, "LOC"),
    ]  # fmt: skip
    assert entities(tags, strict=True) == [Entity(3, 4, "LOC"), Entity(6, 8, "LOC")]


def test_a_letter_of_another_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="'E-PER' is no tag of iob1"):
        to_bio(["I-PER", "E-PER"], "iob1")


def test_what_bio_forbids() -> None:
    start, moves, end = allowed_tags(["O", "B-A", "I-A", "B-B", "I-B"])
    assert start == (1, 1, 0, 1, 0)
    assert end == (1, 1, 1, 1, 1)
    assert moves[0] == (1, 1, 0, 1, 0)  # after O
    assert moves[1] == moves[2] == (1, 1, 1, 1, 0)  # after B-A and I-A


def test_what_bioes_forbids() -> None:
    start, moves, end = allowed_tags(["O", "B-A", "I-A", "E-A", "S-A", "E-B"])
    assert start == (1, 1, 0, 0, 1, 0)
    assert end == (1, 0, 0, 1, 1, 1)
    assert moves[1] == (0, 0, 1, 1, 0, 0)  # an entity of several words goes on or ends
    assert moves[3] == (1, 1, 0, 0, 1, 0)


def test_labels_may_stand_anywhere() -> None:
    assert allowed_tags(["NOUN", "VERB"]) == ((1, 1), ((1, 1), (1, 1)), (1, 1))


@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=8))
def test_sequences_that_are_allowed_are_those_that_both_rules_read_alike(
    tags: Sequence[str],
) -> None:
    names = ["O", "B-A", "I-A", "B-B", "I-B"]
    start, moves, _ = allowed_tags(names)
    numbers = [names.index(tag) for tag in tags]
    allowed = all(start[number] for number in numbers[:1]) and all(
        moves[one][other] for one, other in itertools.pairwise(numbers)
    )
    assert allowed == (entities(tags) == entities(tags, strict=True))
