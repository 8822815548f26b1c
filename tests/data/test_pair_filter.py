"""Pairs that can't be translations are kept out; true ones stay, in any script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.data.pair_filter import PairCleaning

CLEANING = PairCleaning(length_ratio=3.0, maximum_characters=500)


def reject(source: str, target: str, cleaning: PairCleaning = CLEANING) -> str | None:
    return cleaning.reject({"source": source, "target": target})


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("A man.", "Ein Mann."),
        ("「ああ！」と彼女は溜息をつきました。", '"Aah!" she sighed.'),
        ("Stop!", "Arrêtez tout de suite"),
        ("品質がいい。", "It’s nice quality."),
    ],
)
def test_true_translations_stay(source: str, target: str) -> None:
    assert reject(source, target) is reject(target, source) is None


def test_a_side_that_is_far_longer_is_reported() -> None:
    long = "Young girls weave corn stalks into elaborate designs."
    assert reject(long, "@@") == reject("@@", long) == "length ratio"
    assert reject(long, "@@", PairCleaning(length_ratio=None, maximum_characters=None)) is None


def test_the_ratio_is_of_bytes_with_ten_more_each() -> None:
    cleaning = PairCleaning(length_ratio=2.0, maximum_characters=None)
    assert reject("x" * 30, "x" * 10, cleaning) is None
    assert reject("x" * 31, "x" * 10, cleaning) == "length ratio"
    assert reject("日" * 10, "x" * 10, cleaning) is None
    assert reject("日" * 11, "x" * 10, cleaning) == "length ratio"


def test_a_side_with_too_many_characters_is_reported() -> None:
    cleaning = PairCleaning(length_ratio=None, maximum_characters=3)
    assert reject("日本語", "abc", cleaning) is None
    assert reject("日本語だ", "abc", cleaning) == reject("abc", "abcd", cleaning) == "too long"


@given(st.text(), st.text())
def test_which_side_is_which_does_not_matter(one: str, other: str) -> None:
    assert reject(one, other) == reject(other, one)
    assert reject(one, one) is None or len(one) > 500


@pytest.mark.parametrize("wrong", [{"length_ratio": 1.0}, {"maximum_characters": 0}])
def test_settings_that_would_keep_all_out_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        PairCleaning(**{"length_ratio": None, "maximum_characters": None, **wrong})
