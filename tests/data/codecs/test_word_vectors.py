"""Pretrained vectors meet the vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.core.errors import UserError
from pipelines.data.codecs.word_vectors import check_vectors, vectors_for, words_with_vectors

VOCABULARY = ("<pad>", "<unk>", "film", "Good", "unseen", "New York")
GLOVE = "film 1 2 3\ngood 4 5 6\nNew York 7 8 9\nother 0 0 0\n"


@pytest.mark.parametrize("first", ["", "4 3\n"], ids=["glove", "word2vec"])
def test_a_text_file_gives_its_words_and_says_which_are_unknown(tmp_path: Path, first: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(first + GLOVE)
    found = vectors_for(VOCABULARY, str(path))
    assert found is not None
    expected = [[0, 0, 0], [0, 0, 0], [1, 2, 3], [4, 5, 6], [0, 0, 0], [7, 8, 9]]
    np.testing.assert_array_equal(found.matrix, expected)
    assert found.known.tolist() == [False, False, True, True, False, True]


@pytest.mark.parametrize("first", ["", "4 3\n"], ids=["glove", "word2vec"])
def test_the_words_of_a_text_file_are_listed_in_order(tmp_path: Path, first: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(first + GLOVE)
    assert list(words_with_vectors(str(path))) == ["film", "good", "New York", "other"]


def test_a_word_as_it_stands_goes_before_its_lower_case_form(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("Good 1 1\ngood 2 2\n")
    found = vectors_for(("Good", "good"), str(path))
    assert found is not None
    np.testing.assert_array_equal(found.matrix, [[1, 1], [2, 2]])


@pytest.mark.parametrize(
    ("content", "message"),
    [("film 1 2\ngood 1 x\n", "vectors.txt:2"), ("film 1 2\ngood 1\n", "vectors.txt:2"),
     ("film 1 2\ngood inf 1\n", "vectors.txt:2"),
     (f"film {'1 ' * 10_001}\n", "vectors.txt:1: a word and 10001 numbers, at most 10,000"),
     ("other 1 2\n", "not one of the vocabulary's tokens")],
)  # fmt: skip
def test_a_bad_file_is_reported(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        vectors_for(("good", "Good"), str(path))


def test_a_missing_file_is_reported_before_any_work() -> None:
    with pytest.raises(UserError, match=r"no file 'glove\.txt'"):
        check_vectors("glove.txt")


def test_none_is_none() -> None:
    assert vectors_for(VOCABULARY, None) is None
