"""Attention in the report: its weights from each generated token to the tokens of the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.core.sections import Figure
from pipelines.evaluate.metrics.generation import as_texts
from pipelines.report.plots import INK, SERIES, place_axes, shorten, text_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_TOKENS = 40
COLUMNS = 16
"""Columns of a token's text that are shown."""

CELL, LETTERS = 19, 8
"""Points: the side of a cell, and the size of letters."""

MIN_DRAWN_SHARE = 0.02
"""Weights below this share of the largest aren't drawn."""


Tokens = Sequence[str | bytes]


def attention_figures(
    sources: Sequence[Tokens], targets: Sequence[Tokens], weights: Sequence[np.ndarray]
) -> list[Figure]:
    """One figure an example: source tokens (S,), generated tokens (T,), and weights (T, S).

    Tokens may be padded with "" on the right, and weights likewise; each row of weights sums to 1.
    The first MAX_TOKENS of each side are drawn; examples without tokens are left out.
    """
    examples = [
        (without_padding(source), without_padding(target), shares)
        for source, target, shares in zip(sources, targets, weights, strict=True)
    ]
    drawn = [example for example in examples if example[0] and example[1]]
    return [_figure(*example, number) for number, example in enumerate(drawn, 1)]


def rows_of_typical_length(lengths: np.ndarray, count: int) -> np.ndarray:
    """At most `count` rows, spread evenly over those between the median and the 0.8 quantile.

    Shorter texts show little of attention, and longer ones don't fit a page. lengths (N,).
    """
    low, high = np.quantile(lengths, [0.5, 0.8])
    rows = np.flatnonzero((lengths >= low) & (lengths <= high))
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]


def _figure(read: list[str], written: list[str], weights: np.ndarray, number: int) -> Figure:
    shares = np.asarray(weights, float)[: len(written), : len(read)][:MAX_TOKENS, :MAX_TOKENS]
    rows, columns = shares.shape
    column_labels = [token_label(token) for token in read[:columns]]
    row_labels = [token_label(token) for token in written[:rows]]
    upright = max(map(text_columns, column_labels), default=0) <= 4
    left = _points(row_labels) + 8
    top = (1.5 * LETTERS if upright else _points(column_labels)) + 8
    size = ((left + CELL * columns + 4) / 72, (top + CELL * rows + 4) / 72)

    def draw(axes: Axes) -> None:
        from matplotlib.collections import PolyCollection
        from matplotlib.colors import to_rgba
        from matplotlib.patches import Rectangle

        axes.add_patch(Rectangle((-0.5, -0.5), columns, rows, color=INK, alpha=0.05, lw=0))
        strongest = max(float(shares.max(initial=0)), 1e-9)
        cells = np.argwhere(shares > MIN_DRAWN_SHARE * strongest)
        shades = [(shares[row, column] / strongest) ** 0.8 for row, column in cells]
        corners = 0.47 * np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)])
        colours = [to_rgba(SERIES[0], round(float(shade), 2)) for shade in shades]
        squares = list(cells[:, None, ::-1] + corners)
        # One collection: an artist a cell takes ten times as long to draw.
        axes.add_collection(PolyCollection(squares, fc=colours, lw=0))
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.xaxis.tick_top()
        turned: dict[str, Any] = (
            {} if upright else {"rotation": 90, "rotation_mode": "anchor", "ha": "left"}
        )
        axes.set_xticks(
            range(columns), column_labels, va="baseline" if upright else "center", **turned
        )
        axes.set_yticks(range(rows), row_labels)
        axes.tick_params(labelsize=LETTERS, pad=4)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        place_axes(axes, left=left, top=top, right=4, bottom=4)

    caption = _caption(len(read), len(written), explained=number == 1)
    return Figure(f"Attention {number}", draw, caption, size=size)


def _caption(read: int, written: int, *, explained: bool) -> str:
    said = (
        "Each row is a generated token. The stronger the colour, the more attention it paid to the "
        "source token at the top, relative to the most in the figure."
    )
    cut = [
        f"{count} {kind}"
        for count, kind in ((read, "source"), (written, "generated"))
        if count > MAX_TOKENS
    ]
    left_out = f"The first {MAX_TOKENS} of {' and '.join(cut)} tokens." if cut else ""
    return f"{said if explained else ''} {left_out}".strip()


def without_padding(tokens: Tokens) -> list[str]:
    """Tokens as text, without the empty ones at the end."""
    texts = as_texts(tokens)
    while texts and not texts[-1]:
        texts.pop()
    return texts


def token_label(token: str) -> str:
    """The token without SentencePiece's mark of a word's beginning; white space becomes visible."""
    word = token.removeprefix("▁")
    return shorten(word, COLUMNS) if word.strip() else "␣"


def _points(labels: Sequence[str]) -> float:
    """Estimated width of the widest label, in any script: a good half em a column."""
    return 0.6 * LETTERS * max(map(text_columns, labels), default=0)
