"""The memory horizon: how far back in its input a prediction depends on it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipelines.core.types import JsonObject
from pipelines.evaluate.bootstrap import interval, resample

HORIZON_SHARE = 0.9
"""The share of the influence that the steps within the horizon hold."""


class Horizon(NamedTuple):
    """How many of the last steps hold HORIZON_SHARE of an answer's dependence on its input.

    Each example's influences are divided by their sum, and summed cumulatively from the last step
    back. The horizon is where the mean of these curves over examples reaches HORIZON_SHARE, with
    linear interpolation between steps. It is 1 if the last step alone suffices.

    value, low, high  the horizon and its 95% interval (bootstrap over examples).
    half              the same for half of the influence.
    even              the horizon if all steps had equal influence. A value near it shows the length
                      of the sequences, not the memory of the network.
    share             (K,) mean share of the influence at each distance.
    within            (K,) cumulative shares.
    examples          number of examples.
    """

    value: float
    low: float
    high: float
    half: float
    even: float
    share: np.ndarray
    within: np.ndarray
    examples: int


def horizon(influence: np.ndarray, *, examples: int, resamples: int, seed: int) -> Horizon | None:
    """The horizon of influences (N, K) by distance; None if there is no influence at all.

    Influences are NaN before the beginning of a sequence. Rows without influence are left out.

    examples  the number of examples, which are resampled. With several answers an example the rows
              are the first answers of all examples, then the second ones, and so on.
    """
    there = np.nansum(influence, axis=1) > 0
    if not there.any():
        return None
    shares = normalize_rows(influence[there])
    within = np.cumsum(shares, axis=1)
    mean = within.mean(0)
    even = np.isfinite(influence[there])
    even_share = even / even.sum(1, keepdims=True)
    samples: list[float] = []
    for weights in resample(examples, resamples=resamples, seed=seed):
        counts = np.tile(weights, (1, len(influence) // examples))[:, there]
        counts = counts[counts.sum(1) > 0]
        means = counts @ within / counts.sum(1, keepdims=True)
        samples += [steps_to_share(row, HORIZON_SHARE) for row in means]
    low, high = interval(np.asarray(samples))
    return Horizon(
        value=steps_to_share(mean, HORIZON_SHARE),
        low=low,
        high=high,
        half=steps_to_share(mean, 0.5),
        even=steps_to_share(np.cumsum(even_share, axis=1).mean(0), HORIZON_SHARE),
        share=shares.mean(0),
        within=mean,
        examples=examples,
    )


def normalize_rows(influence: np.ndarray) -> np.ndarray:
    """Each row divided by its sum, which must be positive; NaN counts as 0."""
    values = np.nan_to_num(np.asarray(influence, float), nan=0.0, posinf=0.0, neginf=0.0)
    return values / values.sum(1, keepdims=True)


def steps_to_share(within: np.ndarray, share: float) -> float:
    """The number of steps until a rising curve (K,) reaches `share`; at least 1."""
    place = int(np.searchsorted(within, share - 1e-9))
    if place == 0:
        return 1.0
    if place >= len(within):
        return float(len(within))
    before, after = within[place - 1], within[place]
    return float(place + (share - before) / max(after - before, 1e-12))


def to_metrics(horizon: Horizon) -> JsonObject:
    """The horizon in the form of metrics.json."""
    return {
        "value": horizon.value,
        "low": horizon.low,
        "high": horizon.high,
        "half": horizon.half,
        "if_all_steps_counted_alike": horizon.even,
        "examples": horizon.examples,
        "signature": (
            f"last steps that hold {HORIZON_SHARE:.0%} of the influence, by the mean over examples "
            "of its shares"
        ),
    }
