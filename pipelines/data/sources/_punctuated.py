"""Texts as words without marks and capitals, with tags that say what was taken away.

    I loved it, really. Did YOU?
    i      loved  it     really  did   you
    Aaa    aaa    aaa,   aaa.    Aaa   AAA?

A tag is how a word is written (aaa, Aaa or AAA) with the mark that follows it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import NamedTuple

MARKS = ",.?!:;…"
"""The marks that are to be restored."""

ENDS = ".?!…"

LEAST_WORDS, MOST_WORDS = 30, 120
"""A passage ends at the first end of a sentence after so many words, or after so many at last."""

_MARKUP = re.compile(r"<[A-Za-z/][^<>]*>")
_EDGE = re.compile(r"^\W+|\W+$")


class Passage(NamedTuple):
    """Words in lower case, and their tags."""

    words: list[str]
    tags: list[str]


def passages(text: str) -> Iterator[Passage]:
    """The text in passages of some sentences, each with at least one mark and not all in capitals.

    Quotation marks, brackets and dashes are left out; they aren't restored.
    """
    made = Passage([], [])
    for word, tag in take_away(text):
        made.words.append(word)
        made.tags.append(tag)
        ended = tag[-1] in ENDS and len(made.words) >= LEAST_WORDS
        if ended or len(made.words) >= MOST_WORDS:
            yield from _usable(made)
            made = Passage([], [])
    yield from _usable(made)


def take_away(text: str) -> Iterator[tuple[str, str]]:
    """Each word in lower case, with its tag."""
    held: tuple[str, str] | None = None
    for written in html.unescape(_MARKUP.sub(" ", text)).split():
        word, mark = _EDGE.sub("", written), _mark_after(written)
        if word:
            if held:
                yield held
            held = word.lower(), _case(word) + mark
        elif mark and held and held[1][-1] not in MARKS:
            held = held[0], held[1] + mark  # a mark that stands alone, as in French
    if held:
        yield held


def _usable(made: Passage) -> Iterator[Passage]:
    marked = sum(tag[-1] in MARKS for tag in made.tags)
    capitals = sum(tag.startswith("AAA") for tag in made.tags)
    if marked and capitals <= len(made.tags) / 2:
        yield made


def _mark_after(written: str) -> str:
    """The mark at a word's end, whatever quotation marks are around it; "" if there is none."""
    end = re.search(r"\W*$", written)
    found = [character for character in (end.group() if end else "") if character in MARKS]
    if "".join(found).startswith(".."):
        return "…"
    return next((mark for mark in "?!" if mark in found), found[0] if found else "")


def _case(word: str) -> str:
    letters = [character for character in word if character.isalpha()]
    if len(letters) > 1 and all(letter.isupper() for letter in letters):
        return "AAA"
    return "Aaa" if word[0].isupper() else "aaa"
