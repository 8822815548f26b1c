"""What captions say of pictures, for the report: walls of pictures, and where the model looked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipelines.core.contracts import FieldCodec, Split
from pipelines.core.formatting import number
from pipelines.core.sections import Figure, Section, Table
from pipelines.evaluate.metrics.captioning import CIDER, caption_words, cider
from pipelines.evaluate.metrics.generation import as_texts, matched
from pipelines.evaluate.metrics.translation import BleuTokenizer
from pipelines.evaluate.sections.attention import Tokens, token_label, without_padding
from pipelines.evaluate.sections.translation import text_sections
from pipelines.report.plots import INK, SERIES, placed, shortened, wrapped

COLUMNS, ROWS = 5, 4
"""Pictures of a wall."""

EXTREMES = 5
"""Pictures with the best captions, and with the worst."""

FREQUENT = 8
"""Captions that the table of the most frequent ones has."""

MOST_WORDS = 18
"""Of a caption, whose attention is drawn."""

SIDE = 128
"""Most pixels of a picture's side in the report; larger ones are scaled down."""

DIMMEST = 0.12
"""Brightness where a word has no attention."""

PICTURE, CELL, PANEL, LETTERS = 84, 112, 86, 7.5
"""Points: sides of a picture on a wall, its column, sides of an attention panel, size of letters"""

LINE = 1.35 * LETTERS
WIDEST = 24
"""Columns of a caption's line."""

LINES = 3
"""Of a caption and of a reference."""

MARKS = (
    "Marked ✓ and framed by a line: the caption is a reference. ✗ and dashes: it isn't; the first "
    "reference stands below it."
)

Look = Callable[[np.ndarray], np.ndarray]
"""From rows (n,) to their pictures (n, H, W, 3) uint8."""


def picture_sections(
    captions: Sequence[str | bytes],
    references: Sequence[Sequence[str | bytes]],
    look: Look,
    *,
    tokenize: BleuTokenizer = "13a",
    lowercase: bool = False,
) -> list[Section]:
    """Pictures with captions from all over the split, the best, the worst, and mistakes.

    references  one or several for each of the N captions; as in `caption_scores`.
    """
    said, right = as_texts(captions), [as_texts(given) for given in references]
    good = matched(said, right, lowercase)
    words = [caption_words(given, tokenize) for given in right]
    scores = cider(caption_words(said, tokenize), words)
    wall = _Wall(said, right, good, scores, look)
    spread = np.unique(np.linspace(0, len(said) - 1, COLUMNS * ROWS).astype(int))
    # Of equals those with the longest references, which say most.
    lengths = np.array([max(map(len, given)) for given in right])
    telling = np.flatnonzero([bool(text.strip()) for text in said])
    best = telling[np.lexsort((-lengths[telling], -scores[telling]))][:EXTREMES]
    worst = telling[np.lexsort((-lengths[telling], scores[telling]))][:EXTREMES]
    by = f"By {CIDER.label} of each caption that isn't empty, which stands above it."
    return [
        wall.figure("Pictures and captions", spread, f"From all over the split. {MARKS}"),
        *([wall.figure("Best captions", best, by, scored=True)] if len(best) else []),
        *([wall.figure("Worst captions", worst, by, scored=True)] if len(worst) else []),
        frequent_captions(said, good),
        *text_sections(said, right, noun="caption", lowercase=lowercase, examples=False),
    ]


def pictures_of(split: Split, codec: FieldCodec) -> Look:
    """The split's pictures, read as they came and made pixels by the codec of an image column."""
    import tensorflow as tf

    encode = tf.function(
        codec.encode, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
    )

    def look(rows: np.ndarray) -> np.ndarray:
        return encode([one[codec.column] for one in split.examples(rows.tolist())]).numpy()

    return look


def frequent_captions(captions: Sequence[str], good: np.ndarray) -> Table:
    """Those given to the most pictures: how often, and how often rightly; good (N,) bool."""
    counts = Counter(captions)
    hits = Counter(text for text, fine in zip(captions, good, strict=True) if fine)
    rows = [
        (text, f"{count:,}", f"{100 * count / len(captions):.1f} %", f"{hits[text]:,}")
        for text, count in counts.most_common(FREQUENT)
    ]
    caption = f"{len(counts):,} different captions of {len(captions):,} pictures."
    return Table("Most frequent captions", ("caption", "pictures", "share", "right"), rows, caption)


class _Wall:
    """All captions, some of which are drawn below their pictures."""

    def __init__(
        self,
        captions: Sequence[str],
        references: Sequence[Sequence[str]],
        good: np.ndarray,
        scores: np.ndarray,
        look: Look,
    ):
        self.captions, self.references = captions, references
        self.good, self.scores, self.look = good, scores, look

    def figure(self, title: str, rows: np.ndarray, caption: str, *, scored: bool = False) -> Figure:
        pictures = [scaled_down(picture) for picture in self.look(rows)]
        cells = [self._lines(int(row), scored) for row in rows]
        lines = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
        heights = [PICTURE + LINE * (max(map(len, cells)) + 1.2) for cells in lines]
        tops = np.concatenate([[0], np.cumsum(heights)])
        width = CELL * min(COLUMNS, len(rows))

        def draw(axes: Any) -> None:
            _canvas(axes, width, tops[-1])
            for place, (row, picture, texts) in enumerate(zip(rows, pictures, cells, strict=True)):
                top = tops[place // COLUMNS] + 2
                middle = CELL * (place % COLUMNS + 0.5)
                left = middle - PICTURE / 2
                _picture(axes, picture, left, top, PICTURE)
                _frame(axes, left, top, bool(self.good[row]))
                for number_, (text, faint) in enumerate(texts, 1):
                    below = top + PICTURE + 3 + LINE * number_
                    _text(axes, middle, below, text, alpha=0.65 if faint else 1)

        return Figure(title, draw, caption, size=(width / 72, tops[-1] / 72))

    def _lines(self, row: int, scored: bool) -> list[tuple[str, bool]]:
        """Below a picture: lines, and whether they are faint, as a reference is."""
        text, given = self.captions[row], self.references[row]
        mark = "✓" if self.good[row] else "✗"
        head = [(number(self.scores[row], CIDER), True)] if scored else []
        first, *others = wrapped(text.strip() or "(nothing)", WIDEST - 2, LINES)
        said = [f"{mark} {first}", *others]
        right = [] if self.good[row] else wrapped(given[0], WIDEST, LINES)
        return [*head, *((line, False) for line in said), *((line, True) for line in right)]


class Looked(NamedTuple):
    """A picture (H, W, 3) uint8, tokens written of it (T,), and attention to its grid (T, P)."""

    picture: np.ndarray
    tokens: Tokens
    attention: np.ndarray


def picture_attention_figures(examples: Sequence[Looked], grid: tuple[int, int]) -> list[Figure]:
    """A figure an example: the picture, then once for each token, bright where it was looked at.

    grid  rows and columns of the P places, row by row. Tokens may be padded with "", attention
          likewise; the first MOST_WORDS are drawn.
    """
    pairs = [(example, without_padding(example.tokens)) for example in examples]
    drawn = [(example, tokens) for example, tokens in pairs if tokens]
    return [_attention_figure(*pair, grid, which) for which, pair in enumerate(drawn, 1)]


def _attention_figure(
    example: Looked, tokens: list[str], grid: tuple[int, int], which: int
) -> Figure:
    picture = scaled_down(example.picture)
    weights = np.asarray(example.attention, float)[: len(tokens)][:MOST_WORDS]
    panels = [picture, *(lit(picture, one.reshape(grid)) for one in weights)]
    titles = ["", *(shortened(token_label(token), 14) for token in tokens[:MOST_WORDS])]
    across = min(len(panels), round(COLUMNS * CELL / PANEL))
    down = -(-len(panels) // across)
    height = PANEL + 1.6 * LINE
    inner = PANEL - 6

    def draw(axes: Any) -> None:
        _canvas(axes, PANEL * across, height * down)
        for place, (panel, title) in enumerate(zip(panels, titles, strict=True)):
            left, top = PANEL * (place % across), height * (place // across)
            _text(axes, left + PANEL / 2, top + LINE, title)
            _picture(axes, panel, left + 3, top + 1.4 * LINE, inner)

    said = (
        "For each token that was written, the picture is as bright as the attention to each place, "
        "beside the most that the token gave to any."
    )
    cut = f"The first {MOST_WORDS} of {len(tokens)} tokens." if len(tokens) > MOST_WORDS else ""
    caption = f"{said if which == 1 else ''} {cut}".strip()
    size = (PANEL * across / 72, height * down / 72)
    return Figure(f"Attention {which}", draw, caption, size=size)


def lit(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) uint8, dimmed but where the weights (h, w) are; smooth in between."""
    down, across = (
        _between(cells, pixels)
        for cells, pixels in zip(weights.shape, picture.shape[:2], strict=True)
    )
    light = down @ (weights / max(weights.max(), 1e-9)) @ across.T
    bright = DIMMEST + (1 - DIMMEST) * light[..., None]
    return np.round(picture * np.clip(bright, 0, 1)).astype(np.uint8)


def _between(cells: int, pixels: int) -> np.ndarray:
    """(pixels, cells): shares of the cells whose middles a pixel's middle lies between."""
    places = (np.arange(pixels) + 0.5) * cells / pixels - 0.5
    return np.array([np.interp(places, np.arange(cells), one) for one in np.eye(cells)]).T


def scaled_down(picture: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Means of blocks of a picture (H, W, 3) uint8, so that no side is longer; else as it is."""
    step = -(-max(picture.shape[:2]) // side)
    if step == 1:
        return picture
    height, width = (max(size // step, 1) for size in picture.shape[:2])
    blocks = picture[: height * step, : width * step]
    shaped = blocks.reshape(height, blocks.shape[0] // height, width, -1, 3)
    return np.round(shaped.mean((1, 3))).astype(np.uint8)


def _canvas(axes: Any, width: float, height: float) -> None:
    """Coordinates in points, from the upper left corner of the figure, which has nothing else."""
    placed(axes, left=0, top=0, right=0, bottom=0)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    # Each picture with its own pixels; together they would become one of the figure's few dots.
    axes.figure.suppressComposite = True


def _picture(axes: Any, picture: np.ndarray, left: float, top: float, side: float) -> None:
    """Within a square of that side, the ratio of its own sides kept."""
    height, width = (side * size / max(picture.shape[:2]) for size in picture.shape[:2])
    x, y = left + (side - width) / 2, top + (side - height) / 2
    axes.imshow(
        picture,
        extent=(x, x + width, y + height, y),
        aspect="auto",
        interpolation="none",
    )


def _frame(axes: Any, left: float, top: float, good: bool) -> None:
    from matplotlib.patches import Rectangle

    colour, style = (SERIES[2], "-") if good else (SERIES[1], (0, (3, 2)))
    frame = Rectangle((left, top), PICTURE, PICTURE, fill=False, ec=colour, lw=1.6, ls=style)
    axes.add_patch(frame)


def _text(axes: Any, x: float, y: float, text: str, *, alpha: float = 1) -> None:
    axes.text(x, y, text, ha="center", va="baseline", fontsize=LETTERS, color=INK, alpha=alpha)
