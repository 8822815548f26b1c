"""As wide as a budget of parameters allows, so that different cells compare fairly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from models.settings import ModelSettings, RecurrentSettings
from pipelines.core.errors import UserError

if TYPE_CHECKING:
    import keras

SMALL = (2, 4, 6)
"""Widths whose models are counted: three points fix a parabola."""


def within_budget(
    settings: ModelSettings, build: Callable[[RecurrentSettings], keras.Model]
) -> RecurrentSettings:
    """The settings with the largest width of a model within settings.parameters, if it is set.

    A model's parameters are a polynomial of the second degree in its width, so three small ones
    say how large any is; the last one is counted to be sure. UserError if not even width 1 fits.
    """
    budget = settings.parameters
    if budget is None:
        return settings.of_width(settings.width)

    def count(width: int) -> int:
        return parameters(build(settings.of_width(width)))

    size = _parabola([(width, count(width)) for width in SMALL])
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


def parameters(model: keras.Model) -> int:
    """Of all but embeddings, whose size is the vocabulary's."""
    from models.embedding import Embedding

    layers = model._flatten_layers()
    apart = {id(v) for one in layers if isinstance(one, Embedding) for v in one.weights}
    return sum(v.value.shape.num_elements() for v in model.weights if id(v) not in apart)


def _parabola(points: list[tuple[int, int]]) -> Callable[[int], float]:
    """Through three points (Lagrange)."""

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
