"""What the report shows of texts: examples, mistakes, lengths and attention."""

import re

import numpy as np
import pytest

from pipelines.core.sections import Figure, Table
from pipelines.evaluate.sections import translation as module
from pipelines.evaluate.sections.attention import MAX_TOKENS, attention_figures
from pipelines.evaluate.sections.translation import (
    WrittenTexts,
    find_mistakes,
    repeats_itself,
    text_sections,
)
from pipelines.report.plots import svg

RIGHT = [f"the {colour} {animal} sits" for colour in ("red", "blue") for animal in ("cat", "dog")]
WORDS = str.split


def tables(sections):
    return {section.title: section for section in sections if isinstance(section, Table)}


def test_examples_from_best_to_worst_and_empty_ones_apart():
    said = [*RIGHT, "the red cow sits", "no idea", "", *["a", "b"]]
    right = [*RIGHT, *RIGHT[:1] * 5]
    sources = [f"源 {row}".encode() for row in range(9)]
    found = tables(text_sections(WrittenTexts(said, [[text] for text in right], sources)))
    assert list(found) == [
        "Best translations",
        "Middling translations",
        "Worst translations",
        "Typical mistakes",
    ]
    best, middling, worst, wrong = found.values()
    assert best.header == ("chrF++", "source", "reference", "translation")
    assert best.rows[0][0] == "100.0"
    assert best.rows[0][2] == best.rows[0][3] == max(RIGHT, key=len)
    assert [float(row[0]) for row in worst.rows] == sorted(float(row[0]) for row in worst.rows)
    assert float(best.rows[-1][0]) >= float(middling.rows[0][0]) >= float(worst.rows[-1][0])
    assert "1 empty translations are left out" in best.caption
    assert not any(row[3] == "" for table in (best, middling, worst) for row in table.rows)
    assert {row[0] for row in wrong.rows} == {"empty", "less than half as long"}
    assert [int(row[1]) for row in wrong.rows] == [2, 1]
    assert wrong.rows[1][2:] == ("11.1 %", "源 6", RIGHT[0], "")


def test_few_texts_without_sources_and_with_several_references():
    sections = text_sections(
        WrittenTexts(["a cat", "x"], [["a cat", "one cat"], ["y"]], noun="caption")
    )
    found = tables(sections)
    assert list(found) == ["All captions"]
    assert found["All captions"].header == ("chrF++", "reference", "caption")
    assert found["All captions"].rows[0][1:] == ("a cat / one cat", "a cat")
    assert isinstance(sections[-1], Figure)
    assert sections[-1].title == "Length of captions"


def test_only_so_many_texts_are_scored_one_by_one(monkeypatch):
    monkeypatch.setattr(module, "MAX_SCORED", 10)
    best = tables(text_sections(WrittenTexts(RIGHT * 10, [[text] for text in RIGHT * 10])))[
        "Best translations"
    ]
    assert "Of 10 of the 40 texts." in best.caption


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("one two three four five six", []),
        ("", ["empty"]),
        (" ", ["empty"]),
        ("one two", ["less than half as long"]),
        ("eins zwei drei", ["source copied"]),
        ("a b c a b c", ["repeats itself"]),
        ("a a a a", ["repeats itself"]),
        ("a b a b", []),
        ("a b c " * 5, ["repeats itself", "more than twice as long"]),
    ],
)
def test_mistakes_are_named(text, kinds):
    assert find_mistakes(text, ["one two three four five six"], "eins  zwei drei", WORDS) == kinds


def test_what_the_reference_does_too_is_no_mistake():
    assert find_mistakes("", [""], "", WORDS) == []
    assert find_mistakes("ha ha ha ha", ["ho ho ho ho"], None, WORDS) == []
    assert find_mistakes("Berlin", ["Berlin"], "Berlin", WORDS) == []
    assert find_mistakes("no", ["yes I do"], None, WORDS) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", False), ("aaa", False), ("aaaa", True), ("abab", False), ("xabcabcy", True)],
)
def test_repetition(text, expected):
    assert repeats_itself(text) is expected


@pytest.mark.parametrize(
    ("texts", "unit"),
    [(RIGHT, "words"), (["私は猫が好きです", "今日は雨", "本"], "characters")],
)
def test_lengths_are_in_words_or_in_characters(texts, unit):
    figure = text_sections(WrittenTexts(texts, [[text] for text in texts]))[-1]
    assert f"{unit} of the reference" in svg(figure, "x")
    assert "1.00 times as long" in figure.caption


def test_lengths_of_empty_texts_can_be_drawn():
    assert "<svg" in svg(text_sections(WrittenTexts(["", ""], [[""], [""]]))[-1], "x")


SCRIPTS = [
    (["私", "は", "とても", "行きました"], ["I", "went", "there"]),
    (["我", "喜", "欢", "猫"], ["▁I", "▁like", "▁cat", "s"]),
    (["أحب", "القطط", "$x^2$"], ["<s>", "I & you", "cats"]),
    ([b"\xe7\x8c\xab", b"", b""], [b"cat", b" ", b"</s>"]),
]


@pytest.mark.parametrize(("source", "target"), SCRIPTS)
def test_attention_in_any_script(source, target):
    weights = np.full((len(target), len(source)), 1 / len(source))
    (figure,) = attention_figures([source], [target], [weights])
    drawing = svg(figure, "x", standalone=True)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawing)
    read = [token.decode() if isinstance(token, bytes) else token for token in source]
    for token in filter(None, read):
        assert token in texts
    for token in target:
        word = token.decode() if isinstance(token, bytes) else token
        word = word.removeprefix("▁").replace("&", "&amp;").replace("<", "&lt;")
        assert (word.replace(">", "&gt;") if word.strip() else "␣") in texts
    assert len(texts) == len([*filter(None, read), *target])


def test_long_sentences_are_cut_and_the_first_figure_explains():
    tokens = [f"w{number}" for number in range(60)]
    weights = np.eye(60)
    whole, cut = attention_figures([["a"], tokens], [["b"], tokens], [np.ones((1, 1)), weights])
    assert "Each row is a token that was written" in whole.caption
    assert cut.caption == "The first 40 of 60 read and 60 written tokens."
    assert cut.title == "Attention 2"
    drawing = svg(cut, "x")
    assert f">w{MAX_TOKENS - 1}<" in drawing
    assert f">w{MAX_TOKENS}<" not in drawing
    # The diagonal and the field behind it, and nothing where the weights are 0.
    assert drawing.count("fill: var(--series-1)") == MAX_TOKENS


def test_an_empty_answer_has_no_figure():
    assert attention_figures([["a"]], [["", ""]], [np.zeros((2, 1))]) == []


def test_the_page_leaves_room_for_labels_that_matplotlib_cannot_measure():
    short, long = attention_figures(
        [["a"] * 3, ["とても長い言葉"] * 3], [["b"]] * 2, [np.ones((1, 3)) / 3] * 2
    )
    heights = [
        float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg(f, "x"))[1]) for f in (short, long)
    ]
    assert heights[1] - heights[0] >= 6 * 8
