"""Sentences about people in places, tagged in BIO, and files of them."""

from __future__ import annotations

import random
from pathlib import Path

PEOPLE = (("Ada", "Lovelace"), ("Grace", "Hopper"), ("Alan",), ("Emmy", "Noether"))
PLACES = (("London",), ("New", "York"), ("Göttingen",))
VERBS = ("met", "saw", "called")

Sentence = list[tuple[str, str]]
"""Words with their tags."""

QUICK = [
    "task=tagging", "data=tagged_files",
    "model.width=8", "task.embedding.width=8", "task.spelling.width=4",
    "task.spelling.output=6", "task.spelling.affix_width=3", "task.spelling.affix_buckets=64",
    "task.words.minimum_count=1", "train.epochs=2", "train.batch_tokens=256",
    "train.tensorboard=false", "evaluate.resamples=100",
]  # fmt: skip


def entity(words: tuple[str, ...], kind: str) -> Sentence:
    return [(word, f"{'I' if place else 'B'}-{kind}") for place, word in enumerate(words)]


def sentences(count: int, seed: int = 0) -> list[Sentence]:
    """All different but for chance: the number of steps that were taken tells them apart."""
    draw = random.Random(seed)
    return [
        [
            *entity(draw.choice(PEOPLE), "PER"),
            (draw.choice(VERBS), "O"),
            *entity(draw.choice(PEOPLE), "PER"),
            ("in", "O"),
            *entity(draw.choice(PLACES), "LOC"),
            (str(number), "O"),
        ]
        for number in range(count)
    ]


def write_columns(path: Path, rows: list[Sentence]) -> Path:
    """A word a line, with a column between it and its tag, and blank lines between sentences."""
    lines = ["\n".join(f"{word} x {tag}" for word, tag in row) for row in rows]
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return path
