"""Text of strangers stays text wherever it is shown: in terminals, pages, Markdown, spreadsheets.

Labels, column names and file names come from data, and may hold whatever drives what shows them.
"""

from __future__ import annotations

import json
import re

from pipelines.core.secrets import mask_passwords
from pipelines.core.sections import Table
from pipelines.core.types import Json

_REPLACEMENT = 0xFFFD

_PICTURES = {
    # Of ESC, "␛". A line end and a tab are text.
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    # The second set of control characters, half characters, and what XML doesn't allow.
    **dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], _REPLACEMENT),
}


def show_controls(text: str) -> str:
    """The text with a picture, as long, for each character that drives a terminal or isn't XML."""
    return text.replace("\r\n", "\n").translate(_PICTURES)


def one_line(value: object) -> str:
    """The value as a line: with single spaces, and without what drives a terminal."""
    return " ".join(show_controls(str(value)).split())


def error_line(message: object) -> str:
    """An error as a user sees it: one line, without passwords or what drives a terminal."""
    return f"error: {mask_passwords(one_line(message))}"


_CONTROLS = re.compile("[\x7f-\x9f]")


def json_text(value: Json, indent: int | None = None) -> str:
    """The value as JSON that a terminal can show: control characters are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class Markdown(str):
    """Text that is Markdown already, as markupsafe's Markup is HTML already."""

    __slots__ = ()


_SYNTAX = re.compile(
    r"[\\`*\[\]<>|~$&]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word it is no emphasis
    r"|^(?:[#+=-]|(?P<number>\d+)(?=[.)](?:\s|$)))"
)


def escape_markdown(value: object) -> str:
    """The value as one line of Markdown that shows it as it is: no heading, link, table or HTML."""
    if isinstance(value, Markdown):
        return value
    return Markdown(_SYNTAX.sub(_escape, one_line(value)))


def markdown_table(table: Table | None) -> Markdown | None:
    """The table and its caption; None for none."""
    if table is None:
        return None
    lines = [table.header, [Markdown("---")] * len(table.header), *table.rows]
    text = "\n".join(f"| {' | '.join(map(escape_markdown, line))} |" for line in lines)
    return Markdown(f"{text}\n\n{escape_markdown(table.caption)}".rstrip())


def _escape(match: re.Match[str]) -> str:
    # A list's number is escaped at the dot after it.
    return f"{match[0]}\\" if match["number"] else f"\\{match[0]}"


_FORMULA = re.compile(r"[=+\-@\t\r].", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def is_formula(value: object) -> bool:
    """Whether a spreadsheet computes a cell with the value instead of showing it.

    OWASP, "CSV Injection". A number is none, also one in a text.
    """
    return (
        isinstance(value, str)
        and _FORMULA.match(value) is not None
        and _NUMBER.fullmatch(value) is None
    )


def escape_formula(value: object) -> object:
    """The value, with an apostrophe in front of what a spreadsheet would compute."""
    return f"'{value}" if is_formula(value) else value
