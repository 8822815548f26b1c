"""Synthetic sequences that measure how far back a network remembers; no files are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from models.settings import MOST, Count, Seed, settings
from pipelines.core.contracts import Provenance, RowIssues
from pipelines.core.errors import UserError
from pipelines.core.types import Example
from pipelines.data.sources._row_source import RowSource

StepsAndAnswers = tuple[list[str], list[str]]
"""Steps of a sequence and answers, as text: see pipelines/data/codecs/numbers.py."""


def copy(random: np.random.Generator, steps: int, symbols: int) -> StepsAndAnswers:
    """`symbols` digits of 1 to 8, blanks, a mark, and as many steps in which to repeat the digits.

    The copy memory task (Arjovsky et al. 2016, section 4.1; Bai et al. 2018, section 4). Blank 0,
    mark 9. The delay is steps - 2 * symbols.
    """
    digits = random.integers(1, 9, symbols).tolist()
    blanks = steps - 2 * symbols
    # The mark takes the place of the first step that answers.
    read = [*digits, *[0] * blanks, 9, *[0] * (symbols - 1)]
    return [str(step) for step in read], [str(step) for step in digits]


def adding(random: np.random.Generator, steps: int, symbols: int) -> StepsAndAnswers:
    """The sum of two numbers in [0, 1), one in each half, which are marked by 1.

    Hochreiter & Schmidhuber 1997, section 5.4, as in Bai et al. 2018. The best constant has a mean
    squared error of 1/6; so has, in expectation, always answering 1.
    """
    numbers = random.random(steps).round(4)
    half = steps // 2
    chosen = (int(random.integers(half)), int(random.integers(half, steps)))
    read = [f"{number},{int(at in chosen)}.0" for at, number in enumerate(numbers)]
    return read, [f"{numbers[list(chosen)].sum():.4f}"]


def recall(random: np.random.Generator, steps: int, symbols: int) -> StepsAndAnswers:
    """The first of many digits of 0 to 7; the later ones carry no information.

    As the latching problem (Bengio et al. 1994, section II), with 8 classes.
    """
    digits = random.integers(0, 8, steps).tolist()
    return [str(digit) for digit in digits], [str(digits[0])]


def parity(random: np.random.Generator, steps: int, symbols: int) -> StepsAndAnswers:
    """Whether the number of ones is odd: the answer depends on every step."""
    bits = random.integers(0, 2, steps)
    return [str(bit) for bit in bits.tolist()], [str(int(bits.sum() % 2))]


def next_number(random: np.random.Generator, steps: int, symbols: int) -> StepsAndAnswers:
    """The next number of an arithmetic progression."""
    start, difference = random.uniform(-1, 1), random.uniform(-1, 1) / steps
    numbers = start + difference * np.arange(steps + 1)
    return [f"{number:.4f}" for number in numbers[:-1]], [f"{numbers[-1]:.4f}"]


PROBLEMS: dict[str, Callable[[np.random.Generator, int, int], StepsAndAnswers]] = {
    "copy": copy, "adding": adding, "recall": recall, "parity": parity, "next_number": next_number,
}  # fmt: skip


@settings
class Generated(RowSource):
    """Sequences of a problem.

    lengths   in steps; all are equally frequent.
    examples  number of examples of all lengths, before division.
    symbols   number of symbols that copy has to remember; other problems ignore it.
    seed      decides, with an example's number, the example.
    """

    format: Literal["generated"]
    problem: Literal["copy", "adding", "recall", "parity", "next_number"]
    lengths: Annotated[list[Annotated[int, Field(ge=2, le=MOST)]], Field(min_length=1)]
    examples: Count
    symbols: Count
    seed: Seed

    columns = ("sequence", "answer")

    def check(self) -> None:
        shortest = min(self.lengths)
        if self.problem == "copy" and shortest < 2 * self.symbols:
            raise UserError(
                f"data.lengths must be at least twice data.symbols ({2 * self.symbols}), to read "
                f"and to say them; received {shortest}"
            )

    def parts(self) -> tuple[str, ...]:
        return ("all",)

    def read(self, part: str, issues: RowIssues) -> Iterator[Example]:
        make = PROBLEMS[self.problem]
        for number in range(self.examples):
            random = np.random.default_rng([self.seed, number])
            steps, answers = make(random, self.lengths[number % len(self.lengths)], self.symbols)
            yield {"sequence": " ".join(steps), "answer": " ".join(answers)}

    def fingerprint(self) -> str:
        how = [self.problem, self.lengths, self.examples, self.symbols, self.seed]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()

    def provenance(self) -> Provenance:
        about = (PROBLEMS[self.problem].__doc__ or "").split("\n\n")
        citation = " ".join(about[1].split()) if len(about) > 1 else "none"
        return Provenance(
            self.problem, "generated by this project from a seed", "Apache-2.0", citation
        )
