"""The parts of a report, to which tasks add: figures, tables and coloured text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Figure:
    """A plot, drawn when it is needed: `draw(axes)` on a matplotlib Axes; `size` in inches."""

    title: str
    draw: Callable[[Axes], None]
    caption: str = ""
    size: tuple[float, float] = (6.0, 3.6)


@dataclass(frozen=True)
class Table:
    """Rows of cells. Cells are text or numbers; `html` cells must be escaped by who makes them."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Passage:
    """Text whose parts carry a weight in [-1, 1] that is shown as colour, with a line about it."""

    about: str
    parts: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Passages:
    """Texts; above_zero and below_zero say what the colours mean."""

    title: str
    items: Sequence[Passage]
    caption: str = ""
    above_zero: str = "speaks for the answer"
    below_zero: str = "against it; the stronger, the thicker and deeper"


Section = Figure | Table | Passages
"""A part that a task adds to the report."""
