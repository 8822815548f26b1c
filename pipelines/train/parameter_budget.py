"""The width of a model by a budget of parameters, so that different cells compare fairly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from models.settings import ModelSettings, RecurrentSettings
from pipelines.core.errors import UserError

if TYPE_CHECKING:
    import keras

SAMPLE_WIDTHS = (2, 4, 6)
"""Widths whose models are built and counted: three points determine a parabola."""


def fit_width(
    settings: ModelSettings, build: Callable[[RecurrentSettings], keras.Model]
) -> RecurrentSettings:
    """The settings with the largest width whose model is within settings.parameters, if it is set.

    The number of parameters is a polynomial of the second degree in the width, so three small
    models determine the size of any. The chosen one is built and counted too. UserError if not even
    width 1 fits.
    """
    budget = settings.parameters
    if budget is None:
        return settings.of_width(settings.width)

    def count(width: int) -> int:
        return count_parameters(build(settings.of_width(width)))

    size = _parabola([(width, count(width)) for width in SAMPLE_WIDTHS])
    # Doubling finds a power of 2 within the budget; halving steps then find the largest width.
    width = 1
    while size(2 * width) <= budget:
        width *= 2
    step = width
    while step := step // 2:
        if size(width + step) <= budget:
            width += step
    while width and count(width) > budget:
        width -= 1
    if not width:
        raise UserError(f"model.parameters={budget} is too few even for a width of 1: give more")
    return settings.of_width(width)


def count_parameters(model: keras.Model) -> int:
    """Parameters without those of embeddings and n-grams, of which the data decides how many."""
    from models.embedding import Embedding
    from models.layer_tree import flatten_layers
    from models.ngrams import NgramLogits

    tables = [x for x in flatten_layers(model) if isinstance(x, Embedding | NgramLogits)]
    excluded = {id(v) for table in tables for v in table.weights}
    return sum(v.value.shape.num_elements() for v in model.weights if id(v) not in excluded)


def _parabola(points: list[tuple[int, int]]) -> Callable[[int], float]:
    """The parabola through three points (Lagrange)."""

    def value(x: int) -> float:
        total = 0.0
        for i, (xi, yi) in enumerate(points):
            term = float(yi)
            for j, (xj, _) in enumerate(points):
                if j != i:
                    term *= (x - xj) / (xi - xj)
            total += term
        return total

    return value
