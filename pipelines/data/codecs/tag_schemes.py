"""Schemes that write entities as a tag for each word, in plain Python.

    words   Ada    Lovelace  met  Grace  Hopper  in  London
    BIO     B-PER  I-PER     O    B-PER  I-PER   O   B-LOC
    IOB1    I-PER  I-PER     O    I-PER  I-PER   O   I-LOC     B- only next to one of its own type
    BIOES   B-PER  E-PER     O    B-PER  E-PER   O   S-LOC     ends, and single words
    BILOU   B-PER  L-PER     O    B-PER  L-PER   O   U-LOC     the same with other letters

Ramshaw & Marcus 1995; Tjong Kim Sang & Veenstra 1999; Ratinov & Roth 2009.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from pipelines.core.errors import shown

Scheme = Literal["none", "iob1", "bio", "bioes", "bilou"]
"""none: tags are plain labels, such as parts of speech."""

OUTSIDE = "O"

_LETTERS: dict[Scheme, str] = {"iob1": "BI", "bio": "BI", "bioes": "BIES", "bilou": "BILU"}

_TO_BIO = {"B": "B", "I": "I", "E": "I", "L": "I", "S": "B", "U": "B"}


class Entity(NamedTuple):
    """Words start to stop, exclusive, of a type."""

    start: int
    stop: int
    type: str


def split_tag(tag: str) -> tuple[str, str]:
    """A tag's letter and type: "B-PER" to ("B", "PER"); of O the type is empty."""
    return tag[:1], tag[2:]


def is_entity_tag(tag: str) -> bool:
    """Whether it is O, or a letter of a scheme with a type."""
    return tag == OUTSIDE or re.match(r"[BIESLU]-.", tag) is not None


def detect_scheme(sequences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme that sequences are written in.

    Where a file mixes BIO's beginnings with entities that begin with I-, it is BIO with faults:
    in IOB1 B- stands only where an entity of the same type ends.
    """
    letters: set[str] = set()
    begins_with_b = False
    for tags in sequences:
        before: tuple[str, str] = ("", "")
        for tag in tags:
            if not is_entity_tag(tag):
                return "none"
            letter, kind = split_tag(tag)
            letters.add(letter)
            begins_with_b |= letter == "B" and kind != before[1]
            before = (letter, kind)
    letters.discard(OUTSIDE)
    if not letters:
        return "none"
    if letters & {"L", "U"}:
        return "bilou"
    if letters & {"E", "S"}:
        return "bioes"
    return "bio" if begins_with_b else "iob1"


def to_bio(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """The same entities in BIO. What breaks the scheme stays as broken as it is.

    ValueError for a tag that the scheme doesn't have.
    """
    if scheme == "none":
        return list(tags)
    made = []
    before = ""
    for tag in tags:
        if tag == OUTSIDE:
            made.append(tag)
            before = ""
            continue
        letter, kind = split_tag(tag)
        if not is_entity_tag(tag) or letter not in _LETTERS[scheme]:
            raise ValueError(f"{shown(tag)} is no tag of {scheme}")
        begins = scheme == "iob1" and letter == "I" and before != kind
        made.append(f"{'B' if begins else _TO_BIO[letter]}-{kind}")
        before = kind
    return made


def entities(tags: Sequence[str], *, strict: bool = False) -> list[Entity]:
    """The entities that tags in BIO say.

    An I- that continues nothing begins an entity by the rules of conlleval (Tjong Kim Sang & De
    Meulder 2003); by `strict` ones it says nothing, nor does what goes on from it.
    """
    found: list[Entity] = []
    open_kind = ""
    for place, tag in enumerate(tags):
        letter, kind = split_tag(tag)
        if letter == "I" and kind == open_kind:
            found[-1] = found[-1]._replace(stop=place + 1)
        elif letter == "B" or (letter == "I" and not strict):
            found.append(Entity(place, place + 1, kind))
            open_kind = kind
        else:
            open_kind = ""
    return found


def allowed_tags(
    names: Sequence[str],
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Which of the tags may begin a sequence, follow each other, and end it: models' AllowedTags.

    names  in BIO or BIOES; where none is an entity's, everything is allowed.
    """
    if detect_scheme([names]) == "none":
        ones = (1,) * len(names)
        return ones, (ones,) * len(names), ones
    has_ends = any(split_tag(name)[0] in "ES" for name in names)

    def may_follow(before: str, tag: str) -> bool:
        (last, kind), (letter, own) = split_tag(before), split_tag(tag)
        continues = letter in ("I", "E")
        if continues:
            return last in ("B", "I") and kind == own
        return not has_ends or last not in ("B", "I")

    start = tuple(int(may_follow(OUTSIDE, tag)) for tag in names)
    moves = tuple(tuple(int(may_follow(before, tag)) for tag in names) for before in names)
    end = tuple(int(may_follow(tag, OUTSIDE)) for tag in names)
    return start, moves, end
