"""Generated texts in the report: examples, typical mistakes and lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.core.formatting import number
from pipelines.core.sections import Figure, Section, Table
from pipelines.evaluate.metrics.generation import as_texts
from pipelines.evaluate.metrics.translation import CHRF, sentence_chrf
from pipelines.report.plots import INK, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXAMPLES = 5
"""Rows of a table of examples."""

MAX_SCORED = 5000
"""Most texts that are scored one by one, spread evenly over all of them."""

MIN_SPACE_SHARE = 1 / 20
"""Texts with a smaller share of spaces have no words; their lengths are in characters."""

MIN_DIFFERENCE = 3
"""Fewest words by which a text that is too short or too long differs, or that it repeats."""

MAX_BINS = 10

Units = Callable[[str], Sequence[str]]


class WrittenTexts(NamedTuple):
    """Generated texts with their references.

    references  one or several for each of the N texts.
    sources     the input texts, if the input is text.
    noun        the name of a text, such as "caption".
    """

    texts: Sequence[str | bytes]
    references: Sequence[Sequence[str | bytes]]
    sources: Sequence[str | bytes] | None = None
    noun: str = "translation"


def text_sections(
    written: WrittenTexts, *, lowercase: bool = False, examples: bool = True
) -> list[Section]:
    """Examples from good to bad, typical mistakes with an example each, and lengths.

    lowercase  whether the ranking of examples ignores case.
    examples   whether there are tables of examples.
    """
    texts, references, sources, noun = written
    rows = np.linspace(0, len(texts) - 1, min(len(texts), MAX_SCORED)).astype(int)
    chosen = as_texts(texts[row] for row in rows)
    right = [as_texts(references[row]) for row in rows]
    given = None if sources is None else as_texts(sources[row] for row in rows)
    units, unit = _choose_units([text for several in right for text in several])
    some = "" if len(rows) == len(texts) else f" Of {len(rows):,} of the {len(texts):,} texts."
    shown = _TextRows(chosen, right, given, noun)
    return [
        *(_example_tables(shown, lowercase, some) if examples else []),
        *_mistakes_table(shown, units, some),
        lengths_figure(
            [len(units(text)) for text in chosen], _mean_lengths(right, units), noun, unit
        ),
    ]


class _TextRows:
    """Makes rows of tables: source if there is one, references, text."""

    def __init__(
        self,
        texts: Sequence[str],
        references: Sequence[Sequence[str]],
        sources: Sequence[str] | None,
        noun: str,
    ):
        self.texts, self.references, self.sources = texts, references, sources
        self.noun = noun
        self.header = (*(["source"] if sources is not None else []), "reference", noun)

    def row(self, row: int) -> tuple[str, ...]:
        source = [] if self.sources is None else [self.sources[row]]
        return (*source, " / ".join(self.references[row]), self.texts[row])


def _example_tables(shown: _TextRows, lowercase: bool, some: str) -> list[Section]:
    """Tables of the best, middling and worst texts that aren't empty; among equals the longest."""
    scores = sentence_chrf(shown.texts, shown.references, lowercase=lowercase)
    nonempty = np.flatnonzero([bool(text.strip()) for text in shown.texts])
    lengths = np.array([len(given[0]) for given in shown.references])
    falling = nonempty[np.lexsort((-lengths[nonempty], -scores[nonempty]))]
    rising = nonempty[np.lexsort((-lengths[nonempty], scores[nonempty]))]
    count = min(EXAMPLES, len(nonempty) // 3)
    middle = (len(nonempty) - count) // 2
    parts = {
        "Best": falling[:count],
        "Middling": falling[middle : middle + count],
        "Worst": rising[:count],
    }
    if count == 0:
        parts = {"All": falling}
    header = (CHRF.label, *shown.header)
    empty = len(shown.texts) - len(nonempty)
    left_out = f" {empty:,} empty {shown.noun}s are left out." if empty else ""
    caption = f"Ranked by the {CHRF.label} of each {shown.noun}, 0 to 100.{left_out}{some}"
    return [
        Table(
            f"{name} {shown.noun}s",
            header,
            [(number(scores[row], CHRF), *shown.row(row)) for row in rows],
            caption if name in ("Best", "All") else "",
        )
        for name, rows in parts.items()
        if len(rows)
    ]


def _mistakes_table(shown: _TextRows, units: Units, some: str) -> list[Section]:
    """A table of the kinds of mistakes that occur, with the first example of each; if any."""
    found: dict[str, list[int]] = {}
    for row, text in enumerate(shown.texts):
        source = None if shown.sources is None else shown.sources[row]
        for kind in find_mistakes(text, shown.references[row], source, units):
            found.setdefault(kind, []).append(row)
    if not found:
        return []
    rows = [
        (kind, f"{len(rows):,}", _share(len(rows), len(shown.texts)), *shown.row(rows[0]))
        for kind, rows in sorted(found.items(), key=lambda item: -len(item[1]))
    ]
    header = ("mistake", "count", "share", *shown.header)
    caption = f"Found by rules, which don't know the meaning; with the first example of each.{some}"
    return [Table("Typical mistakes", header, rows, caption)]


def find_mistakes(
    text: str, references: Sequence[str], source: str | None, units: Units
) -> list[str]:
    """Names of a text's obvious mistakes. units: splits a text into words or characters."""
    if not text.strip():
        return ["empty"] if all(given.strip() for given in references) else []
    kinds = []
    words, right = units(text), [units(given) for given in references]
    shortest, longest = min(map(len, right)), max(map(len, right))
    if repeats_itself(words) and not any(map(repeats_itself, right)):
        kinds.append("repeats itself")
    if source is not None and text.split() == source.split() and text not in references:
        kinds.append("source copied")
    if len(words) < shortest / 2 and shortest - len(words) >= MIN_DIFFERENCE:
        kinds.append("less than half as long")
    if len(words) > longest * 2 and len(words) - longest >= MIN_DIFFERENCE:
        kinds.append("more than twice as long")
    return kinds


def repeats_itself(units: Sequence[str]) -> bool:
    """Whether a phrase is repeated at once, with at least MIN_DIFFERENCE words in the repeats."""
    for length in range(1, len(units) // 2 + 1):
        run = 0
        for first, second in zip(units, units[length:], strict=False):
            run = run + 1 if first == second else 0
            if run >= max(length, MIN_DIFFERENCE):
                return True
    return False


def lengths_figure(
    lengths: Sequence[float], references: Sequence[float], noun: str, unit: str
) -> Figure:
    """Lengths of texts by the lengths of their references, both in units such as "words"."""
    actual, right = np.asarray(lengths, float), np.asarray(references, float)
    edges = np.unique(np.quantile(right, np.linspace(0, 1, MAX_BINS + 1)))
    groups = np.clip(np.searchsorted(edges, right, side="right") - 1, 0, max(len(edges) - 2, 0))
    used = np.unique(groups)
    center = np.array([right[groups == group].mean() for group in used])
    low, middle, high = np.array(
        [np.quantile(actual[groups == group], [0.1, 0.5, 0.9]) for group in used]
    ).T
    top = 1.06 * max(center.max(), high.max(), 1)

    def draw(axes: Axes) -> None:
        axes.plot([0, top], [0, top], ":", color=INK, lw=1.2, label="as long as the reference")
        axes.fill_between(center, low, high, color=SERIES[0], alpha=0.2, lw=0, label="80% of all")
        axes.plot(center, middle, "o-", color=SERIES[0], label="median")
        axes.set_xlim(0, 1.06 * center.max() or 1)
        axes.set_ylim(0, top)
        axes.set_xlabel(f"{unit} of the reference")
        axes.set_ylabel(f"{unit} of the {noun}")
        axes.locator_params(integer=True)
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.03, 1), ncols=3, columnspacing=1.2, fontsize=8
        )

    ratio = actual.sum() / max(right.sum(), 1)
    caption = f"All {noun}s together are {ratio:.2f} times as long as their references."
    return Figure(f"Length of {noun}s", draw, caption, size=(4.8, 3.6))


def _mean_lengths(references: Sequence[Sequence[str]], units: Units) -> list[float]:
    return [float(np.mean([len(units(text)) for text in given])) for given in references]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def _choose_units(texts: Sequence[str]) -> tuple[Units, str]:
    """How texts are split (words if they have spaces, else characters), and the units' name."""
    spaces, characters = sum(text.count(" ") for text in texts), sum(map(len, texts))
    if spaces < MIN_SPACE_SHARE * characters:
        return lambda text: "".join(text.split()), "characters"
    return str.split, "words"
