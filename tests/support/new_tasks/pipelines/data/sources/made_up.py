"""Examples of kinds that no task of the project has: lists of words, series, frames, characters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from models.settings import Count, settings
from pipelines.core.contracts import Provenance, RowIssues
from pipelines.core.types import Example
from pipelines.data.sources._row_source import RowSource

COLOURS = ("red", "green", "blue")
THINGS = ("cup", "door", "road", "leaf")


def tags(random: np.random.Generator, number: int) -> Example:
    """Colours and things in any order, and which each word is."""
    words = random.choice([*COLOURS, *THINGS], random.integers(2, 7)).tolist()
    kinds = ["colour" if word in COLOURS else "thing" for word in words]
    return {"words": words, "tags": kinds, "group": f"g{number % 9}"}


def forecast(random: np.random.Generator, number: int) -> Example:
    """A wave with a period of six steps, at a height of its own."""
    steps = np.arange(60 + number) + random.uniform(0, 6)
    return {"series": (np.sin(2 * np.pi * steps / 6) + number).tolist()}


def align(random: np.random.Generator, number: int) -> Example:
    """One, two or three frames a symbol, and an empty frame after each."""
    symbols = random.choice(list("ab"), random.integers(1, 5)).tolist()
    frames: list[list[float]] = []
    for symbol in symbols:
        frames += [[1.0, 0.0] if symbol == "a" else [0.0, 1.0]] * int(random.integers(1, 4))
        frames.append([0.0, 0.0])
    return {"frames": frames, "symbols": " ".join(symbols)}


def babble(random: np.random.Generator, number: int) -> Example:
    """A syllable again and again."""
    return {"text": str(random.choice(["ba", "do", "mi"])) * int(random.integers(3, 7))}


KINDS: dict[str, Callable[[np.random.Generator, int], Example]] = {
    "tags": tags,
    "forecast": forecast,
    "align": align,
    "babble": babble,
}


@settings
class MadeUp(RowSource):
    """So many examples of a kind."""

    format: Literal["made_up"]
    kind: Literal["tags", "forecast", "align", "babble"]
    examples: Count

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(KINDS[self.kind](np.random.default_rng(0), 0))

    def check(self) -> None: ...

    def parts(self) -> tuple[str, ...]:
        return ("all",)

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        for number in range(self.examples):
            yield KINDS[self.kind](np.random.default_rng([7, number]), number)

    def fingerprint(self) -> str:
        return f"{self.kind} {self.examples}"

    def provenance(self) -> Provenance:
        return Provenance(self.kind, "made up", "none", "none")
