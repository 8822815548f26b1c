"""Captions in the report: images with their captions, and the attention to parts of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.core.contracts import FieldCodec, Split
from pipelines.core.formatting import number
from pipelines.core.sections import Figure, Section, Table
from pipelines.evaluate.metrics.captioning import CIDER, caption_words, cider
from pipelines.evaluate.metrics.generation import as_texts, equals_a_reference
from pipelines.evaluate.metrics.translation import BleuTokenizer
from pipelines.evaluate.sections.attention import Tokens, token_label, without_padding
from pipelines.evaluate.sections.translation import WrittenTexts, text_sections
from pipelines.report.plots import INK, SERIES, place_axes, shorten, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS, ROWS = 5, 4
"""Images in a figure."""

EXTREMES = 5
"""Images in the figure of the best captions, and in that of the worst."""

FREQUENT = 8
"""Rows of the table of the most frequent captions."""

MAX_WORDS = 18
"""Tokens of a caption whose attention is drawn, from its first."""

MAX_SIDE = 128
"""Pixels of an image's longer side in the report; larger images are scaled down."""

MIN_BRIGHTNESS = 0.12
"""Brightness of places without attention."""

IMAGE, CELL, PANEL, LETTERS = 84, 112, 86, 7.5
"""Points: the side of an image in a figure, its column, the side of an attention panel, letters."""

LINE = 1.35 * LETTERS
LINE_COLUMNS = 24
"""Columns of text in a line of a caption."""

LINES = 3
"""Most lines of a caption, and of a reference."""

MARKS = (
    "✓ and a full frame: the caption is one of the references. ✗ and a dashed frame: it isn't; the "
    "first reference stands below it."
)

ReadImages = Callable[[np.ndarray], np.ndarray]
"""From rows (n,) to their images (n, H, W, 3) uint8."""


def image_sections(
    captions: Sequence[str | bytes],
    references: Sequence[Sequence[str | bytes]],
    read_images: ReadImages,
    *,
    tokenize: BleuTokenizer = "13a",
    lowercase: bool = False,
) -> list[Section]:
    """Images with captions spread over the split, the best and worst captions, and mistakes.

    references  one or several for each of the N captions; as in `caption_scores`.
    """
    said, right = as_texts(captions), [as_texts(texts) for texts in references]
    is_right = equals_a_reference(said, right, lowercase)
    words = [caption_words(texts, tokenize) for texts in right]
    scores = cider(caption_words(said, tokenize), words)
    wall = _ImageWall(said, right, is_right, scores, read_images)
    spread = np.unique(np.linspace(0, len(said) - 1, COLUMNS * ROWS).astype(int))
    # Among equal scores those with the longest references come first: they say most.
    lengths = np.array([max(map(len, texts)) for texts in right])
    nonempty = np.flatnonzero([bool(text.strip()) for text in said])
    if len(np.unique(scores[nonempty])) < 2:
        nonempty = nonempty[:0]  # where all are equal, none is the best
    best = nonempty[np.lexsort((-lengths[nonempty], -scores[nonempty]))][:EXTREMES]
    worst = nonempty[np.lexsort((-lengths[nonempty], scores[nonempty]))][:EXTREMES]
    by = f"Ranked by the {CIDER.label} above each caption; empty captions are left out."
    return [
        wall.figure(
            "Images and captions", spread, f"Examples spread evenly over the split. {MARKS}"
        ),
        *([wall.figure("Best captions", best, by, scored=True)] if len(best) else []),
        *([wall.figure("Worst captions", worst, by, scored=True)] if len(worst) else []),
        frequent_captions(said, is_right),
        *text_sections(
            WrittenTexts(said, right, noun="caption"), lowercase=lowercase, examples=False
        ),
    ]


def image_reader(split: Split, codec: FieldCodec) -> ReadImages:
    """Reads images of the split from their files and decodes them with an image column's codec."""
    import tensorflow as tf

    encode = tf.function(
        codec.encode, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
    )

    def read_images(rows: np.ndarray) -> np.ndarray:
        return encode([one[codec.column] for one in split.examples(rows.tolist())]).numpy()

    return read_images


def frequent_captions(captions: Sequence[str], is_right: np.ndarray) -> Table:
    """The captions of the most images, with counts of all and of right ones; is_right (N,) bool."""
    counts = Counter(captions)
    hits = Counter(text for text, fine in zip(captions, is_right, strict=True) if fine)
    rows = [
        (text, f"{count:,}", f"{100 * count / len(captions):.1f} %", f"{hits[text]:,}")
        for text, count in counts.most_common(FREQUENT)
    ]
    caption = f"{len(counts):,} different captions of {len(captions):,} images."
    return Table("Most frequent captions", ("caption", "images", "share", "right"), rows, caption)


class _ImageWall:
    """Draws images with their captions below them."""

    def __init__(
        self,
        captions: Sequence[str],
        references: Sequence[Sequence[str]],
        is_right: np.ndarray,
        scores: np.ndarray,
        read_images: ReadImages,
    ):
        self.captions, self.references = captions, references
        self.is_right, self.scores, self.read_images = is_right, scores, read_images

    def figure(self, title: str, rows: np.ndarray, caption: str, *, scored: bool = False) -> Figure:
        images = [downscale(image) for image in self.read_images(rows)]
        cells = [self._lines(int(row), scored) for row in rows]
        lines = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
        heights = [IMAGE + LINE * (max(map(len, cells)) + 1.2) for cells in lines]
        tops = np.concatenate([[0], np.cumsum(heights)])
        width = CELL * min(COLUMNS, len(rows))

        def draw(axes: Axes) -> None:
            _canvas(axes, width, tops[-1])
            for place, (row, image, texts) in enumerate(zip(rows, images, cells, strict=True)):
                top = tops[place // COLUMNS] + 2
                middle = CELL * (place % COLUMNS + 0.5)
                left = middle - IMAGE / 2
                _draw_image(axes, image, left, top, IMAGE)
                _frame(axes, left, top, bool(self.is_right[row]))
                for number_, (text, faint) in enumerate(texts, 1):
                    below = top + IMAGE + 3 + LINE * number_
                    _text(axes, middle, below, text, alpha=0.65 if faint else 1)

        return Figure(title, draw, caption, size=(width / 72, tops[-1] / 72))

    def _lines(self, row: int, scored: bool) -> list[tuple[str, bool]]:
        """Lines of text below an image, and whether each is faint, as a reference is."""
        text, references = self.captions[row], self.references[row]
        mark = "✓" if self.is_right[row] else "✗"
        head = [(number(self.scores[row], CIDER), True)] if scored else []
        first, *others = wrap(text.strip() or "(nothing)", LINE_COLUMNS - 2, LINES)
        said = [f"{mark} {first}", *others]
        right = [] if self.is_right[row] else wrap(references[0], LINE_COLUMNS, LINES)
        return [*head, *((line, False) for line in said), *((line, True) for line in right)]


class AttendedImage(NamedTuple):
    """An image (H, W, 3) uint8, the tokens of its caption (T,), and their attention (T, P)."""

    image: np.ndarray
    tokens: Tokens
    attention: np.ndarray


def image_attention_figures(
    examples: Sequence[AttendedImage], grid: tuple[int, int]
) -> list[Figure]:
    """One figure an example: the image, then one panel a token, bright where its attention is.

    grid  rows and columns of the P places, which are numbered row by row. Tokens may be padded
          with "", and attention likewise; the first MAX_WORDS tokens are drawn.
    """
    pairs = [(example, without_padding(example.tokens)) for example in examples]
    drawn = [(example, tokens) for example, tokens in pairs if tokens]
    return [_attention_figure(*pair, grid, which) for which, pair in enumerate(drawn, 1)]


def _attention_figure(
    example: AttendedImage, tokens: list[str], grid: tuple[int, int], which: int
) -> Figure:
    image = downscale(example.image)
    weights = np.asarray(example.attention, float)[: len(tokens)][:MAX_WORDS]
    panels = [image, *(dim_unattended(image, one.reshape(grid)) for one in weights)]
    titles = ["", *(shorten(token_label(token), 14) for token in tokens[:MAX_WORDS])]
    across = min(len(panels), round(COLUMNS * CELL / PANEL))
    down = -(-len(panels) // across)
    height = PANEL + 1.6 * LINE
    inner = PANEL - 6

    def draw(axes: Axes) -> None:
        _canvas(axes, PANEL * across, height * down)
        for place, (panel, title) in enumerate(zip(panels, titles, strict=True)):
            left, top = PANEL * (place % across), height * (place // across)
            _text(axes, left + PANEL / 2, top + LINE, title)
            _draw_image(axes, panel, left + 3, top + 1.4 * LINE, inner)

    said = (
        "One panel for each token of the caption: each place is as bright as the token's attention "
        "to it, relative to the token's strongest attention."
    )
    cut = f"The first {MAX_WORDS} of {len(tokens)} tokens." if len(tokens) > MAX_WORDS else ""
    caption = f"{said if which == 1 else ''} {cut}".strip()
    size = (PANEL * across / 72, height * down / 72)
    return Figure(f"Attention {which}", draw, caption, size=size)


def dim_unattended(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8, darker where the weights (h, w) are small; linear in between."""
    down, across = (
        _interpolation_matrix(cells, pixels)
        for cells, pixels in zip(weights.shape, image.shape[:2], strict=True)
    )
    light = down @ (weights / max(weights.max(), 1e-9)) @ across.T
    bright = MIN_BRIGHTNESS + (1 - MIN_BRIGHTNESS) * light[..., None]
    return np.round(image * np.clip(bright, 0, 1)).astype(np.uint8)


def _interpolation_matrix(cells: int, pixels: int) -> np.ndarray:
    """(pixels, cells): linear interpolation of values at the cells' middles to pixels."""
    places = (np.arange(pixels) + 0.5) * cells / pixels - 0.5
    return np.array([np.interp(places, np.arange(cells), one) for one in np.eye(cells)]).T


def downscale(image: np.ndarray, side: int = MAX_SIDE) -> np.ndarray:
    """The image (H, W, 3) uint8, averaged over blocks so that no side is longer than `side`."""
    step = -(-max(image.shape[:2]) // side)
    if step == 1:
        return image
    height, width = (max(size // step, 1) for size in image.shape[:2])
    blocks = image[: height * step, : width * step]
    shaped = blocks.reshape(height, blocks.shape[0] // height, width, -1, 3)
    return np.round(shaped.mean((1, 3))).astype(np.uint8)


def _canvas(axes: Axes, width: float, height: float) -> None:
    """Makes the axes fill the figure, with coordinates in points from its upper left corner."""
    place_axes(axes, left=0, top=0, right=0, bottom=0)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    # Matplotlib would merge all images into one bitmap at the figure's low resolution.
    axes.figure.suppressComposite = True


def _draw_image(axes: Axes, image: np.ndarray, left: float, top: float, side: float) -> None:
    """Draws the image within a square of that side; keeps its aspect ratio."""
    height, width = (side * size / max(image.shape[:2]) for size in image.shape[:2])
    x, y = left + (side - width) / 2, top + (side - height) / 2
    axes.imshow(
        image,
        extent=(x, x + width, y + height, y),
        aspect="auto",
        interpolation="none",
    )


def _frame(axes: Axes, left: float, top: float, is_right: bool) -> None:
    from matplotlib.patches import Rectangle

    colour, style = (SERIES[2], "-") if is_right else (SERIES[1], (0, (3, 2)))
    frame = Rectangle((left, top), IMAGE, IMAGE, fill=False, ec=colour, lw=1.6, ls=style)
    axes.add_patch(frame)


def _text(axes: Axes, x: float, y: float, text: str, *, alpha: float = 1) -> None:
    axes.text(x, y, text, ha="center", va="baseline", fontsize=LETTERS, color=INK, alpha=alpha)
