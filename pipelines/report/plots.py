"""Figures as SVG that follows the reader's colour scheme and shows any script.

Colours are drawn as sentinels and become CSS variables, so one drawing serves light and dark. Text
stays text: the browser finds the fonts.
"""

from __future__ import annotations

import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pipelines.core.formatting import number
from pipelines.core.plain_text import show_controls
from pipelines.core.scores import Metric
from pipelines.core.sections import Figure
from pipelines.runs.metrics import LengthBucket, ScoreEntry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HistoryRow = Mapping[str, float | None]
"""A line of history.jsonl: an evaluation while training."""

INK = "#010203"
PAPER = "#010205"
SERIES = ("#010211", "#010212", "#010213", "#010214", "#010215", "#010216")
"""Colours to draw with. What they look like is in PALETTE."""

PALETTE = """
:root { --ink: #1d2430; --paper: #ffffff; --series-1: #2460c8; --series-2: #c2410c;
  --series-3: #0f766e; --series-4: #9333ea; --series-5: #a16207; --series-6: #be185d; }
@media (prefers-color-scheme: dark) {
:root { --ink: #e3e7ee; --paper: #14181f; --series-1: #7aa7ff; --series-2: #fb923c;
  --series-3: #4fd1c5; --series-4: #c99bff; --series-5: #e3b341; --series-6: #f78fb8; } }
"""

_VARIABLES = {INK: "currentColor", PAPER: "var(--paper)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, 1)
}

_STYLE = {
    "svg.fonttype": "none",
    # Labels come from data: a dollar sign in them is a dollar sign.
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "lines.solid_capstyle": "round",
}

_FONTS = "font-family: system-ui, -apple-system, 'Segoe UI', 'Noto Sans', sans-serif"


def svgs(figure: Figure, name: str) -> tuple[str, str]:
    """The figure as <svg> elements whose ids all start with `name`: for a page, and standalone.

    The standalone one has its own palette and background. Drawing, which is slow, happens once.
    """
    drawing = _draw_svg(figure, name)
    return _adapt(drawing, figure, name, False), _adapt(drawing, figure, name, True)


def _draw_svg(figure: Figure, name: str) -> str:
    """The figure as matplotlib's SVG."""
    import io

    import matplotlib
    from cycler import cycler
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    style = _STYLE | {"axes.prop_cycle": cycler(color=SERIES), "svg.hashsalt": name}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # Glyphs that matplotlib's font lacks are measured as boxes; the browser draws them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas = Canvas(figsize=figure.size, layout="constrained")
        FigureCanvasSVG(canvas)
        figure.draw(canvas.subplots())
        file = io.StringIO()
        canvas.savefig(
            file, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None}
        )
    return file.getvalue()


def learning_curves(history: Sequence[HistoryRow], metric: Callable[[str], Metric]) -> list[Figure]:
    """A figure for each quantity over epochs: loss and scores by split, learning rate, gradients.

    metric  gives the metric of a score's name.
    """
    quantities: dict[str, list[str]] = {}
    for row in history:
        for key, value in row.items():
            split, dot, quantity = key.partition(".")
            is_plotted = split in _SPLITS if dot else key in _UNSPLIT
            names = quantities.setdefault(quantity if dot else key, []) if is_plotted else []
            if is_plotted and isinstance(value, int | float) and key not in names:
                names.append(key)
    order = sorted((name for name in quantities if quantities[name]), key=_rank)
    labels = {name: _UNSPLIT.get(name) or metric(name).label for name in order}
    return [_curve(history, labels[name], quantities[name]) for name in order]


_SPLITS = ("train", "validation", "test")
_UNSPLIT = {
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
    "clipped": "share of training steps clipped",
}


def _rank(quantity: str) -> int:
    if quantity in _UNSPLIT:
        return 2 + list(_UNSPLIT).index(quantity)
    return 0 if quantity == "loss" else 1


def _curve(history: Sequence[HistoryRow], label: str, keys: Sequence[str]) -> Figure:
    epochs = [row.get("epoch") for row in history]
    # Evaluations within an epoch share its number.
    axis = "epoch" if None not in epochs and len(set(epochs)) == len(epochs) else "step"

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for key in keys:
            split, dot, _ = key.partition(".")
            place = _SPLITS.index(split) if dot else 0
            points = [
                (row.get(axis) or position, value)
                for position, row in enumerate(history, 1)
                if (value := row.get(key)) is not None
            ]
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                label=split,
                color=SERIES[place],
                # Not by colour alone; and a single epoch is a point.
                marker="os^"[place],
                linestyle=("-", "--", ":")[place],
            )
        axes.set_xlabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        values = [value for row in history for key in keys if (value := row.get(key)) is not None]
        start_at_zero(axes.get_ylim, axes.set_ylim, values)
        if any("." in key for key in keys):
            axes.legend()

    return Figure(_title(label), draw, size=(3.6, 2.4))


def start_at_zero(
    get_limits: Callable[[], tuple[float, float]],
    set_limits: Callable[[float, float], object],
    values: Sequence[float],
) -> None:
    """Moves an axis' lower end to 0 where there would be room below it for nothing.

    get_limits, set_limits  such as axes.get_ylim and axes.set_ylim.
    """
    low, high = get_limits()
    if low < 0 <= min(values, default=-1):
        set_limits(0, high if max(values) > 0 else 1)


def _title(text: str) -> str:
    """A label with a capital, unless it has one of its own as chrF++ does."""
    first = text.split()[0]
    return text if first != first.lower() else text[:1].upper() + text[1:]


def plot_by_length(buckets: Sequence[LengthBucket], metric: Metric) -> Figure:
    """One metric over buckets of length (see evaluation.score_by_length), with its 95% interval."""
    scored = [bucket for bucket in buckets if metric.name in bucket.scores]
    names = [
        f"{bucket.shortest}"
        if bucket.shortest == bucket.longest
        else f"{bucket.shortest}–{bucket.longest}"
        for bucket in scored
    ]
    spans = [
        (bucket.scores[metric.name], bucket.low, bucket.high, SERIES[0], "o") for bucket in scored
    ]

    def draw(axes: Axes) -> None:
        _draw_intervals(axes, metric, names, spans)
        axes.set_xlabel(metric.label)
        axes.set_ylabel("length")

    return Figure(f"{_title(metric.label)} by length", draw, size=(4.8, 0.75 + 0.36 * len(scored)))


def compare_baselines(
    metric: Metric, network: ScoreEntry, baselines: Mapping[str, ScoreEntry]
) -> Figure:
    """The score of the network and of each baseline, by its label, with 95% intervals."""
    entries = [network, *baselines.values()]
    spans: list[Span] = [(entry.value, entry.low, entry.high, INK, "D") for entry in entries]
    spans[0] = (*spans[0][:3], SERIES[0], "o")

    def draw(axes: Axes) -> None:
        _draw_intervals(axes, metric, ["this network", *baselines], spans)
        axes.set_xlabel(metric.label)

    return Figure("Compared with the baselines", draw, size=(4.8, 0.75 + 0.45 * len(spans)))


Span = tuple[float, float | None, float | None, str, str]
"""Value, low, high, colour, marker."""


def _draw_intervals(
    axes: Axes, metric: Metric, names: Sequence[str], spans: Sequence[Span]
) -> None:
    """Draws a row for each name, with the value above its marker."""
    for place, (value, low, high, colour, marker) in enumerate(spans):
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.45)
        axes.plot([value], [place], marker, color=colour, markersize=6.5)
        axes.annotate(
            number(value, metric),
            (value, place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(names)), [shorten(name, 32) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.75)
    axes.margins(x=0.08)
    ends = [end for value, low, high, *_ in spans for end in (value, low, high) if end is not None]
    start_at_zero(axes.get_xlim, axes.set_xlim, ends)
    axes.grid(axis="y", visible=False)


def place_axes(axes: Axes, *, left: float, top: float, right: float, bottom: float) -> None:
    """Puts the axes at these distances in points from the edges of the figure, which stay there.

    For labels that may be in any script, which matplotlib can't measure without the reader's fonts.
    """
    from matplotlib.patches import Rectangle

    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes must be of a figure")
    width, height = 72 * figure.get_size_inches()
    figure.set_layout_engine("none")
    across, up = (width - left - right) / width, (height - top - bottom) / height
    axes.set_position((left / width, bottom / height, across, up))
    # Otherwise the edges would be where matplotlib thinks that the labels end.
    whole = Rectangle((0, 0), 1, 1, transform=figure.transFigure, fill=False, lw=0, ec="none")
    figure.add_artist(whole)


def set_log_scale(axes: Axes, name: Literal["x", "y"] = "y") -> None:
    """Makes an axis logarithmic with labels in plain text: powers of ten, or more within a decade.

    Matplotlib's own labels are mathtext, which isn't parsed here: a text may have dollar signs.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    getattr(axes, f"set_{name}scale")("log")
    low, high = getattr(axes, f"get_{name}lim")()
    axis = axes.xaxis if name == "x" else axes.yaxis
    few = high / low < 20
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    minor = FuncFormatter(lambda value, _: f"{value:.3g}") if few else NullFormatter()
    axis.set_minor_formatter(minor)
    axis.set_tick_params(which="minor", labelsize=7)


def _power(value: float) -> str:
    """Plain digits from 0.01 to 1000, else a power of ten."""
    if 0.009 < value < 1001:
        return f"{value:g}"
    exponent = f"{round(math.log10(value))}"
    return "10" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def text_columns(text: str) -> int:
    """The width of a text in columns, of which a wide (East Asian) character takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def shorten(text: str, columns: int) -> str:
    """The text in at most `columns` columns; an ellipsis ends it if something is left out."""
    if text_columns(text) <= columns:
        return text
    while text and text_columns(text) >= columns:
        text = text[: min(len(text) - 1, columns)]
    return text.rstrip() + "…"


def wrap(text: str, columns: int, lines: int) -> list[str]:
    """The text in at most `lines` lines of at most `columns` columns; an ellipsis ends it if cut.

    Lines break at spaces, and anywhere within words that are wider than a line.
    """
    wrapped: list[str] = []
    rest = " ".join(text.split())
    while text_columns(rest) > columns and len(wrapped) < lines - 1:
        fits = len(shorten(rest, columns + 1)) - 1
        space = rest.rfind(" ", 0, fits + 1)
        end = space if space > 0 else fits
        wrapped.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*wrapped, shorten(rest, columns)]


def _adapt(text: str, figure: Figure, name: str, standalone: bool) -> str:
    from markupsafe import escape

    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.S)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href="|href="|url\()#', rf"\1#{name}-", text)
    text = re.sub("|".join(_VARIABLES), lambda match: _VARIABLES[match[0]], text)
    text = re.sub(r"font-family: [^;\"]+", _FONTS.replace('"', "'"), text)
    text = re.sub(r"(?<=style=\")font: ([\d.]+px)[^;\"]*", rf"font-size: \1; {_FONTS}", text)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    about = escape(f"{figure.title}. {figure.caption}".strip())
    opening = (
        f'<svg viewBox="{size[0][9:-1] if size else ""}" role="img" '
        f'aria-labelledby="{name}-title" class="plot"'
    )
    natural = f"{float(size[1]) * 4 / 3:.0f}px" if size else "100%"
    width = f' style="--natural: {natural}; max-width: {natural}"'
    head = f'<title id="{name}-title">{about}</title>'
    if standalone:
        opening += ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        head += f"<style>{PALETTE} svg {{ color: var(--ink); background: var(--paper); }}</style>"
    text = re.sub(r"<svg\b[^>]*>", lambda _: f"{opening}{width}>{head}", text, count=1)
    return show_controls(text)  # XML allows no others
