"""Advice from the diagnostics: findings in plain words, each with a remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from models.settings import RecurrentSettings
from pipelines.core.types import JsonObject
from pipelines.evaluate.diagnostics.horizon import Horizon
from pipelines.evaluate.diagnostics.sample import Inspection, Layer

VANISHED_SHARE, EXPLODED_SHARE = 0.01, 100.0
"""A gradient has vanished, or exploded, once this share of it is left further back in time."""

MIN_ROWS = 5
"""The fewest examples for a median at a distance."""

MOSTLY = 0.5
"""Share of activations, units or training steps from which there is a warning."""

EVENLY = 0.8
"""From this share of the horizon of equal influences on, an answer depends on all steps."""

ONE_SIDED = 0.95
"""Share of a gate's values on one side, open or shut, from which it does nothing as a gate."""


class Moment(NamedTuple):
    """An inspection at some time of training.

    name  for people, such as "before training".
    step  training steps until then.
    """

    name: str
    step: int
    inspection: Inspection


def typical_curve(values: np.ndarray, quantile: float = 0.5) -> np.ndarray:
    """Quantile over examples of values (B, K), at each distance that enough of them reach: (K,)."""
    rows = np.isfinite(values).sum(0)
    reach = int((rows >= min(MIN_ROWS, max(1, len(values)))).sum())
    if not reach:
        return np.zeros(0)
    return np.nanquantile(values[:, :reach], quantile, axis=0)


def first_index(condition: np.ndarray) -> int | None:
    """The first index where the condition (K,) holds; None if there is none."""
    places = np.flatnonzero(condition)
    return int(places[0]) if len(places) else None


def steps_until(gradient_flow: np.ndarray) -> tuple[int | None, int | None]:
    """Steps after which the median of (B, K) is below VANISHED_SHARE, and above EXPLODED_SHARE.

    None where it never is.
    """
    curve = typical_curve(gradient_flow)
    return first_index(curve < VANISHED_SHARE), first_index(curve > EXPLODED_SHARE)


def give_advice(
    moments: Sequence[Moment],
    horizons: Mapping[str, Mapping[str, Horizon]],
    history: Sequence[JsonObject],
    model: RecurrentSettings,
    clip_norm: float | None,
) -> list[str]:
    """Warnings as text, by layer; none if all is well."""
    last = moments[-1].inspection
    warnings: list[str] = []
    for reader, layers in last.layers.items():
        for number, layer in enumerate(layers):
            start = moments[0].inspection.layers[reader][number]
            warnings += _flow_warnings(reader, layer, start, horizons.get(reader, {}), model)
            warnings += _activation_warnings(reader, layer, model)
    return warnings + _clipping_warnings(history, clip_norm)


def place_name(reader: str, layer: Layer) -> str:
    """The layer's name, "encoder, layer 1", with the direction where there are two."""
    direction, _, index = layer.name.rpartition("_")
    way = ", reading backwards" if direction == "backward" else ""
    return f"{reader}, layer {int(index) + 1}{way}"


def _flow_warnings(
    reader: str,
    layer: Layer,
    start: Layer,
    horizons: Mapping[str, Horizon],
    model: RecurrentSettings,
) -> list[str]:
    where = place_name(reader, layer)
    length = int(np.median(np.isfinite(layer.loss_gradient).sum(1)))
    gone, large = steps_until(layer.gradient_flow)
    start_gone, start_large = steps_until(start.gradient_flow)
    found = []
    if gone is not None and gone < length:
        before = f" ({start_gone} before training)" if start_gone not in (None, gone) else ""
        found.append(
            f"{where}: gradients vanish after about {gone} steps{before}: that far back, 1% of the "
            f"last state's gradient is left, and sequences have {length} steps. "
            f"{_other_ways(horizons) or _vanishing_remedy(model)}"
        )
    elif start_gone is not None and start_gone < length:
        found.append(
            f"{where}: before training, gradients vanished after about {start_gone} steps; "
            "after training they don't."
        )
    steps = large if large is not None else start_large
    if steps is not None:
        when = "" if large is not None else " before training"
        found.append(
            f"{where}: gradients explode{when}: they are {EXPLODED_SHARE:.0f} times as large "
            f"{steps} steps back. Keep train.clip_norm (1.0), lower train.learning_rate, or try "
            "model=gru."
        )
    return found


def _vanishing_remedy(model: RecurrentSettings) -> str:
    if model.cell == "simple_rnn":
        relu = "" if model.activation == "relu" else ", or model.activation=relu"
        return f"Try model=gru{relu}."
    other = "model=gru" if model.cell == "lstm" else "model=lstm"
    return (
        f"Information from further back needs another way: attention, or pooling over all steps; "
        f"or try {other}, or shorter sequences."
    )


def _other_ways(horizons: Mapping[str, Horizon]) -> str:
    answer = horizons.get("answer")
    states = [found for name, found in horizons.items() if name != "answer"]
    if answer is None or not states:
        return ""
    longest = max(found.value for found in states)
    if answer.value >= EVENLY * answer.even:
        return "The answer depends on all steps nevertheless, since it reads every state."
    if answer.value < 2 * longest:
        return ""
    return (
        f"The answer reaches back further nevertheless ({answer.value:.0f} steps, "
        f"{longest:.0f} through the last state), since it reads other states, too."
    )


def _activation_warnings(reader: str, layer: Layer, model: RecurrentSettings) -> list[str]:
    where, found = place_name(reader, layer), []
    relu = model.cell == "simple_rnn" and model.activation == "relu"
    if relu and layer.dead > MOSTLY:
        found.append(
            f"{where}: {layer.dead:.0%} of the units are 0 at every step and can't learn any "
            "longer. Lower train.learning_rate, or use model.activation=tanh."
        )
    if not relu and layer.saturated > MOSTLY:
        found.append(
            f"{where}: {layer.saturated:.0%} of the activations are saturated, where their slope "
            "is below a tenth of its peak, and learn next to nothing. Lower train.learning_rate, "
            "or use model.dropout or train.optimizer=adamw with train.weight_decay."
        )
    for name, (opened, shut) in layer.gates.items():
        if max(opened, shut) > ONE_SIDED:
            side = "open" if opened > shut else "shut"
            found.append(
                f"{where}: the {name} gate is {side} {max(opened, shut):.0%} of the time, so it "
                "does little as a gate. Lower train.learning_rate, or try the simpler cell."
            )
    return found


def _clipping_warnings(history: Sequence[JsonObject], clip_norm: float | None) -> list[str]:
    shares = [row["clipped"] for row in history if "clipped" in row]
    norms = [row["gradient_norm"] for row in history if "gradient_norm" in row]
    if clip_norm is None or not shares or shares[-1] <= MOSTLY:
        return []
    return [
        f"Clipping acts in {shares[-1]:.0%} of the training steps (last norm before clipping "
        f"{norms[-1]:.3g}, train.clip_norm {clip_norm:g}): it decides the length of steps. Raise "
        "train.clip_norm, or lower train.learning_rate."
    ]
