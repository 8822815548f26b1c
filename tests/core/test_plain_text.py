"""What comes from data is shown as text: it drives no terminal, page, Markdown or spreadsheet."""

from __future__ import annotations

import html
import json
from random import Random

import pytest
from markdown_it import MarkdownIt

from pipelines.core.plain_text import (
    Markdown,
    error_line,
    escape_formula,
    escape_markdown,
    is_formula,
    json_text,
    show_controls,
)

CLEAR_SCREEN = "\x1b[2J\x9b2J\x07\0"


def test_control_characters_are_pictures_and_line_ends_and_tabs_stay() -> None:
    assert show_controls(f"a\t{CLEAR_SCREEN}\r\nb\rc") == "a\t␛[2J\ufffd2J␇␀\nb␍c"
    assert show_controls("\x7f \ud800 \uffff 日本 🙂 שלום") == "␡ \ufffd \ufffd 日本 🙂 שלום"


def test_an_error_is_one_line_that_drives_no_terminal() -> None:
    assert error_line(ValueError("no \x1b[31m\nsuch x://a:pw@h")) == (
        "error: no ␛[31m such x://a:***@h"
    )


def test_json_keeps_its_value_and_holds_no_control_character() -> None:
    value = {"label": CLEAR_SCREEN + "é日\x7f"}
    line = json_text(value)
    assert json.loads(line) == value
    assert "é日" in line
    assert line == show_controls(line)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain, 0.720 (0.695 to 0.745); f1_macro", "plain, 0.720 (0.695 to 0.745); f1_macro"),
        ("a\n\n# heading", "a # heading"),
        ("# heading", "\\# heading"),
        ("- item", "\\- item"),
        ("12. item", "12\\. item"),
        ("12.5", "12.5"),
        ("=====", "\\====="),
        ("__a__ a_b", "\\_\\_a\\_\\_ a_b"),
        ("a | b", "a \\| b"),
        ("[x](javascript:alert(1))", "\\[x\\](javascript:alert(1))"),
        ("<script>&lt;", "\\<script\\>\\&lt;"),
        ("`code` *a* _b_ ~c~ $d$ \\", "\\`code\\` \\*a\\* \\_b\\_ \\~c\\~ \\$d\\$ \\\\"),
        ("\x1b[31m", "␛\\[31m"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


def test_whatever_the_text_markdown_is_a_paragraph_or_a_cell_of_it() -> None:
    """As another program renders it: markdown-it, which comes with rich."""
    render = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render
    parts = [
        *"\\`*_{}[]()#+-.!|<>&~:=/0 \n\ta",
        "12.",
        "](x:y)",
        "<b>",
        "&lt;",
        "```",
        "---",
        "![",
        "    ",
    ]
    random = Random(1)
    for _ in range(3000):
        text = "".join(random.choices(parts, k=random.randint(1, 12)))
        shown = html.escape(" ".join(text.split()), quote=True).replace("&#x27;", "'")
        if shown:
            line = escape_markdown(text)
            assert render(line) == f"<p>{shown}</p>\n", repr(text)
            table = render(f"| {line} |\n|---|\n| {line} |")
            assert f"<th>{shown}</th>" in table, repr(text)
            assert f"<td>{shown}</td>" in table, repr(text)


def test_what_is_markdown_stays_as_it_is() -> None:
    assert escape_markdown(Markdown("`a` | *b*")) == "`a` | *b*"
    assert escape_markdown(escape_markdown("*")) == "\\*"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "-inf", "=\n1"]
)
def test_a_formula_begins_with_an_apostrophe(text: str) -> None:
    assert is_formula(text)
    assert escape_formula(text) == f"'{text}"


@pytest.mark.parametrize(
    "value", ["", "-", "a=1", "-1", "+1.5", "-.5e-3", "'=1", -1, -0.5, None, True]
)
def test_numbers_and_other_texts_are_no_formulas(value: object) -> None:
    assert not is_formula(value)
    assert escape_formula(value) == value
