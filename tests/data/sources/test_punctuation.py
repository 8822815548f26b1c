"""What is taken from a text is what its tags say."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_task import configure

from pipelines.core.contracts import RowIssues
from pipelines.core.errors import UserError
from pipelines.data.sources._punctuated import LEAST_WORDS, MOST_WORDS, passages


def pairs(text: str) -> str:
    return " ".join(
        f"{word}/{tag}" for part in passages(text) for word, tag in zip(*part, strict=1)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I loved it, really.", "i/Aaa loved/aaa it/aaa, really/aaa."),
        ('He said "no!" TWICE?!', "he/Aaa said/aaa no/aaa! twice/AAA?"),
        ("well ... yes .<br />It's (very) old;", "well/aaa… yes/aaa. it's/Aaa very/aaa old/aaa;"),
        ("a - b: the U.S. won't", "a/aaa b/aaa: the/aaa u.s/AAA. won't/aaa"),
        ("Tom &amp; Jerry.", "tom/Aaa jerry/Aaa."),
        ("Älter 3.5 mal...", "älter/Aaa 3.5/aaa mal/aaa…"),
    ],
)  # fmt: skip
def test_words_and_tags_by_hand(text: str, expected: str) -> None:
    assert pairs(text) == expected


@pytest.mark.parametrize("text", ["no marks at all", "ALL IN CAPITALS. ALWAYS!", "", " ... "])
def test_what_has_nothing_to_teach_is_left_out(text: str) -> None:
    assert not list(passages(text))


def test_passages_end_with_a_sentence_or_after_very_many_words() -> None:
    sentence = ["one", "two", "three", "four", "five", "six", "seven."]
    made = list(passages(" ".join(sentence * 20)))
    assert [len(part.words) for part in made] == [35, 35, 35, 35]
    endless = list(passages(" ".join(["word"] * (MOST_WORDS - 1) + ["end,"] + ["x"] * 3 + ["y."])))
    assert [len(part.words) for part in endless] == [MOST_WORDS, 4]
    assert LEAST_WORDS <= 35


def test_a_file_of_texts_and_inputs_that_have_marks(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("One, two.\nThree!\nFour?\n", encoding="utf-8")
    given = ["task=tagging", "data=punctuation", f"data.path={path}"]
    source = configure(*given, "data.every=2").data
    source.check()
    assert list(source.read("all", RowIssues())) == [
        {"tokens": ["one", "two"], "tags": ["Aaa,", "aaa."]},
        {"tokens": ["four"], "tags": ["Aaa?"]},
    ]
    raw = {"tokens": configure(*given).task.codec()["words"].raw}
    assert source.parse_input("WELL, HELLO THERE", raw) == {"tokens": ["well", "hello", "there"]}
    with pytest.raises(UserError, match="a word at least"):
        source.parse_input("...", raw)


def test_texts_without_marks_are_told(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("one two\n", encoding="utf-8")
    with pytest.raises(UserError, match="must hold texts with marks"):
        configure("task=tagging", "data=punctuation", f"data.path={path}").data.check()
