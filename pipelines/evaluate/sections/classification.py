"""A classifier in the report: confusions, calibration and mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.core.formatting import number
from pipelines.core.sections import Figure, Passage, Passages, Section, Table
from pipelines.core.types import Arrays, Example
from pipelines.evaluate.metrics.classification import confusion, reliability
from pipelines.report.plots import INK, PAPER, SERIES, shorten, text_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_CLASSES_DRAWN = 60
MAX_CLASSES_WITH_COUNTS = 12
MISTAKES = 12
CONFUSIONS = 15
CLASSES_LISTED = 20
NAME_COLUMNS = 24


def classification_sections(
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    examples: Callable[[Sequence[int]], list[Example]],
    column: str,
) -> list[Section]:
    """Confusion matrix, calibration, scores by class and the most confident mistakes.

    probabilities (N, C); labels (N,) int; names of the C classes; `examples` is Split.examples, of
    which `column` is shown.
    """
    names = [str(name) for name in names]
    counts = confusion(probabilities.argmax(1), labels, len(names))
    sections: list[Section] = []
    if len(names) <= MAX_CLASSES_DRAWN:
        sections.append(confusion_figure(counts, names))
    sections.append(reliability_figure(probabilities, labels))
    if len(names) > 4:
        sections.append(confusions_table(counts, names))
    sections.append(by_class_table(counts, names))
    wrong = mistakes_table(probabilities, labels, names, examples=examples, column=column)
    return [*sections, wrong] if wrong.rows else sections


def confusion_figure(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Counts (C, C), rows true and columns predicted; shaded by the share of the true class."""
    size = len(names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shades = 0.05 + 0.9 * shares**0.7
    short = [shorten(name, NAME_COLUMNS) for name in names]

    def draw(axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        for row, column in np.argwhere(counts > 0):
            corner, alpha = (column - 0.48, row - 0.48), shades[row, column]
            axes.add_patch(Rectangle(corner, 0.96, 0.96, color=SERIES[0], alpha=alpha, lw=0))
        if size <= MAX_CLASSES_WITH_COUNTS:
            for (row, column), count in np.ndenumerate(counts):
                colour = PAPER if shades[row, column] > 0.55 else INK
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        upright = max(map(text_columns, short)) * size <= 40
        axes.set_xticks(range(size), short, rotation=0 if upright else 90)
        axes.set_yticks(range(size), short)
        if size > MAX_CLASSES_WITH_COUNTS:
            axes.tick_params(labelsize=6.5)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    width = min(9.0, 1.9 + (0.8 if size <= 4 else 0.42 if size <= 12 else 0.19) * size)
    caption = (
        "Each row sums to the examples of a class. The stronger the colour, the larger the share."
    )
    return Figure("Confusion matrix", draw, caption, size=(width, 0.84 * width))


def confusions_table(counts: np.ndarray, names: Sequence[str]) -> Table:
    wrong = counts * (1 - np.eye(len(names), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [np.unravel_index(place, wrong.shape) for place in order]
    rows = [
        (
            names[true],
            names[predicted],
            int(wrong[true, predicted]),
            _share(wrong[true, predicted], counts[true].sum()),
        )
        for true, predicted in pairs
        if wrong[true, predicted]
    ]
    header = ("true", "predicted", "examples", "share of the class")
    return Table("Most frequent confusions", header, rows)


def by_class_table(counts: np.ndarray, names: Sequence[str]) -> Table:
    """Precision TP / predicted, recall TP / true and F1, their harmonic mean; the worst classes."""
    hits, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    worst = np.argsort(f1, kind="stable")[:CLASSES_LISTED]
    rows = [
        (
            names[c],
            int(true[c]),
            _ratio(hits[c], predicted[c]),
            _ratio(hits[c], true[c]),
            _ratio(2 * hits[c], true[c] + predicted[c]),
        )
        for c in worst
    ]
    left_out = len(names) - len(rows)
    caption = (
        f"The lowest F1 first; {left_out} classes with higher F1 are left out." if left_out else ""
    )
    return Table("By class", ("class", "examples", "precision", "recall", "F1"), rows, caption)


def reliability_figure(probabilities: np.ndarray, labels: np.ndarray) -> Figure:
    """Accuracy by confidence (Guo et al. 2017, figure 1): calibrated where it is the diagonal."""
    curve = reliability(probabilities, labels)
    share = curve.size / curve.size.sum()
    lowest = np.floor(10 / probabilities.shape[1]) / 10

    def draw(axes: Axes) -> None:
        axes.bar(
            curve.confidence,
            share,
            width=0.02,
            color=INK,
            alpha=0.22,
            lw=0,
            label="share of examples",
        )
        axes.plot([0, 1], [0, 1], ":", color=INK, lw=1.2, label="perfectly calibrated")
        axes.plot(
            curve.confidence, curve.accuracy, "o-", color=SERIES[0], label="share that is right"
        )
        axes.set_xlim(max(lowest - 0.02, 0), 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("probability of the predicted class")
        # Above the axes: points and bars may lie anywhere within.
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.03, 1), ncols=3, columnspacing=1.2, fontsize=8
        )

    caption = (
        "Below the dotted line the network is overconfident; bars show the shares of examples."
    )
    return Figure("Calibration", draw, caption, size=(4.8, 3.6))


def mistakes_table(
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    examples: Callable[[Sequence[int]], list[Example]],
    column: str,
) -> Table:
    """Wrong predictions by falling probability of the predicted class."""
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][
        :MISTAKES
    ].tolist()
    rows = [
        (
            str(example[column]),
            names[predicted[row]],
            number(probabilities[row, predicted[row]]),
            names[labels[row]],
        )
        for row, example in zip(worst, examples(worst) if worst else [], strict=True)
    ]
    caption = "Some of them may be errors in the labels."
    return Table(
        "Most confident mistakes", (column, "predicted", "probability", "label"), rows, caption
    )


def _ratio(part: float, whole: float) -> str:
    return number(part / whole) if whole else "–"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


EXPLAINED = 8
"""Examples in the section of coloured words."""


def rows_from_sure_to_unsure(probabilities: np.ndarray) -> np.ndarray:
    """A few rows of probabilities (N, C), from the surest prediction to the least sure one."""
    order = np.argsort(-probabilities.max(1), kind="stable")
    return order[np.linspace(0, len(order) - 1, min(EXPLAINED, len(order))).astype(int)]


class Answers(NamedTuple):
    """What was said of examples and what is right: probabilities (B, C), labels (B,), C names."""

    probabilities: np.ndarray
    labels: np.ndarray
    names: Sequence[str]


def words_that_mattered(
    weights: np.ndarray, inputs: Arrays, tokens: Sequence[str], answers: Answers
) -> Passages:
    """Texts whose tokens are coloured by their weights (B, T) in [-1, 1].

    inputs  tokens (B, T) and tokens_length (B,). tokens are those of the vocabulary, by id.
    """
    probabilities, labels, names = answers
    items = []
    for row, length in enumerate(inputs["tokens_length"]):
        predicted, label = names[probabilities[row].argmax()], names[labels[row]]
        about = f"{predicted}, probability {probabilities[row].max():.3f}"
        about += "" if predicted == label else f" (label: {label})"
        pairs = zip(inputs["tokens"][row, :length], weights[row, :length], strict=True)
        items.append(Passage(about, [(tokens[i], float(weight)) for i, weight in pairs]))
    caption = (
        "Tokens as the network reads them, from the most to the least confident prediction. The "
        "colour is evidence for or against the predicted class: gradient times input, and what the "
        "n-grams add that a token is in."
    )
    return Passages("Words that mattered", items, caption)
