"""What the measurements mean, in plain words, with the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from models.settings import RecurrentSettings
from pipelines.core.types import JsonObject
from pipelines.evaluate.diagnostics.horizon import Horizon
from pipelines.evaluate.diagnostics.sample import Layer, Look

VANISHED, EXPLODED = 0.01, 100.0
"""Of a gradient that goes back through time: shares at which it counts as gone, or too large."""

FEWEST_ROWS = 5
"""Examples that a median at a distance is made of, at least."""

MOSTLY = 0.5
"""Share of activations, units or updates from which on something is told."""

EVENLY = 0.8
"""Of the horizon if all steps counted alike: from there on an answer reaches everything."""

FIXED = 0.95
"""Share of a gate's values on one side from which on it counts as no gate."""


class Moment(NamedTuple):
    """A look at some time of training: name for people ("at the start"), updates until then."""

    name: str
    step: int
    look: Look


def typical(values: np.ndarray, quantile: float = 0.5) -> np.ndarray:
    """(K,) quantile over examples of (B, K) at each distance that enough of them reach."""
    rows = np.isfinite(values).sum(0)
    reach = int((rows >= min(FEWEST_ROWS, max(1, len(values)))).sum())
    if not reach:
        return np.zeros(0)
    return np.nanquantile(values[:, :reach], quantile, axis=0)


def first(condition: np.ndarray) -> int | None:
    """The first place where it holds."""
    places = np.flatnonzero(condition)
    return int(places[0]) if len(places) else None


def steps_until(arriving: np.ndarray) -> tuple[int | None, int | None]:
    """Steps back after which the typical share of a gradient is VANISHED, and EXPLODED, or None."""
    curve = typical(arriving)
    return first(curve < VANISHED), first(curve > EXPLODED)


def advice(
    moments: Sequence[Moment],
    horizons: Mapping[str, Mapping[str, Horizon]],
    history: Sequence[JsonObject],
    model: RecurrentSettings,
    clip_norm: float | None,
) -> list[str]:
    """Sentences, the gravest first; none where all is well."""
    last = moments[-1].look
    found: list[str] = []
    for reader, layers in last.layers.items():
        for number, layer in enumerate(layers):
            start = moments[0].look.layers[reader][number]
            found += _of_flow(reader, layer, start, horizons.get(reader, {}), model)
            found += _of_values(reader, layer, model)
    return found + _of_clipping(history, clip_norm)


def place_name(reader: str, layer: Layer) -> str:
    """As in "encoder, layer 1", with the direction where there are two."""
    direction, _, index = layer.name.rpartition("_")
    way = ", reading backwards" if direction == "backward" else ""
    return f"{reader}, layer {int(index) + 1}{way}"


def _of_flow(
    reader: str,
    layer: Layer,
    start: Layer,
    horizons: Mapping[str, Horizon],
    model: RecurrentSettings,
) -> list[str]:
    where = place_name(reader, layer)
    length = int(np.median(np.isfinite(layer.told).sum(1)))
    gone, large = steps_until(layer.arriving)
    begun_gone, begun_large = steps_until(start.arriving)
    found = []
    if gone is not None and gone < length:
        before = f" ({begun_gone} before training)" if begun_gone not in (None, gone) else ""
        found.append(
            f"{where}: gradients vanish after about {gone} steps{before}: so far back, 1% of what "
            f"the loss tells the last state is left, and sequences have {length} steps. "
            f"{_remedy_for_vanishing(model)}{_reaches_further(horizons)}"
        )
    elif begun_gone is not None and begun_gone < length:
        found.append(
            f"{where}: before training gradients vanished after about {begun_gone} steps; "
            "training has mended that."
        )
    steps = large if large is not None else begun_large
    if steps is not None:
        when = "" if large is not None else " before training"
        found.append(
            f"{where}: gradients explode{when}: they are {EXPLODED:.0f} times as large {steps} "
            f"steps back. Keep train.clip_norm (1.0), lower train.learning_rate, or try model=gru."
        )
    return found


def _remedy_for_vanishing(model: RecurrentSettings) -> str:
    if model.cell == "simple_rnn":
        relu = "" if model.activation == "relu" else ", or model.activation=relu"
        return f"Try model=gru{relu}."
    other = "model=gru" if model.cell == "lstm" else "model=lstm"
    return (
        f"What is needed from further back must come another way: attention, or a pooling that "
        f"looks at every step; or try {other}, or shorter sequences."
    )


def _reaches_further(horizons: Mapping[str, Horizon]) -> str:
    answer = horizons.get("answer")
    states = [found for name, found in horizons.items() if name != "answer"]
    if answer is None or not states:
        return ""
    longest = max(found.value for found in states)
    if answer.value >= EVENLY * answer.even:
        return " The answer depends on all steps all the same, since it looks at every state."
    if answer.value < 2 * longest:
        return ""
    return (
        f" The answer reaches back further all the same ({answer.value:.0f} steps, "
        f"{longest:.0f} through the last state), since it looks at other states too."
    )


def _of_values(reader: str, layer: Layer, model: RecurrentSettings) -> list[str]:
    where, found = place_name(reader, layer), []
    relu = model.cell == "simple_rnn" and model.activation == "relu"
    if relu and layer.dead > MOSTLY:
        found.append(
            f"{where}: {layer.dead:.0%} of the units are 0 at every step and can't learn any more. "
            "Lower train.learning_rate, or use model.activation=tanh."
        )
    if not relu and layer.saturated > MOSTLY:
        found.append(
            f"{where}: {layer.saturated:.0%} of the activations are saturated, where their slope "
            "is below a tenth of its peak, and learn next to nothing. Lower train.learning_rate, "
            "or use model.dropout or train.optimizer=adamw with train.weight_decay."
        )
    for name, (opened, shut) in layer.gates.items():
        if max(opened, shut) > FIXED:
            side = "open" if opened > shut else "shut"
            found.append(
                f"{where}: the {name} gate is {side} {max(opened, shut):.0%} of the time, so it "
                "does little as a gate. Lower train.learning_rate, or try the simpler cell."
            )
    return found


def _of_clipping(history: Sequence[JsonObject], clip_norm: float | None) -> list[str]:
    shares = [row["clipped"] for row in history if "clipped" in row]
    norms = [row["gradient_norm"] for row in history if "gradient_norm" in row]
    if clip_norm is None or not shares or shares[-1] <= MOSTLY:
        return []
    return [
        f"Clipping acts in {shares[-1]:.0%} of the updates (norm before clipping {norms[-1]:.3g} "
        f"at last, train.clip_norm {clip_norm:g}): it decides the length of steps. Raise "
        "train.clip_norm, or lower train.learning_rate."
    ]
