"""How far back a prediction depends on what was read: one number with an interval, and a curve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipelines.core.types import JsonObject
from pipelines.evaluate.bootstrap import interval, resample

WITHIN = 0.9
"""The horizon is how many of the last steps hold this share of the influence."""


class Horizon(NamedTuple):
    """How many of the last steps hold 90% of an answer's dependence on what was read.

    Of each example the influences are divided by their sum, and added up from the nearest step on;
    the horizon is where the mean over examples reaches WITHIN, linear between two steps: 1 where
    the last step alone is enough.

    value, low, high  it, and its 95% interval (bootstrap over examples).
    half       the same for one half of the influence.
    even       what it would be if every step of these examples counted alike: a horizon near it is
               the data's length, not the network's memory.
    share      (K,) mean influence at each distance. within (K,): all up to it.
    examples   that it is of.
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
    """Of influences (N, K) by distance, NaN beyond a beginning; None if there is no influence.

    examples  that the rows are of: all of them once, or several times one after the other, when an
              example has several answers. They are what is resampled.
    Rows without any influence are left out.
    """
    there = np.nansum(influence, axis=1) > 0
    if not there.any():
        return None
    shares = relative(influence[there])
    within = np.cumsum(shares, axis=1)
    mean = within.mean(0)
    even = np.isfinite(influence[there])
    even_share = even / even.sum(1, keepdims=True)
    samples: list[float] = []
    for weights in resample(examples, resamples=resamples, seed=seed):
        counts = np.tile(weights, (1, len(influence) // examples))[:, there]
        counts = counts[counts.sum(1) > 0]
        means = counts @ within / counts.sum(1, keepdims=True)
        samples += [reached(row, WITHIN) for row in means]
    low, high = interval(np.asarray(samples))
    return Horizon(
        value=reached(mean, WITHIN),
        low=low,
        high=high,
        half=reached(mean, 0.5),
        even=reached(np.cumsum(even_share, axis=1).mean(0), WITHIN),
        share=shares.mean(0),
        within=mean,
        examples=examples,
    )


def relative(influence: np.ndarray) -> np.ndarray:
    """Each row divided by its sum; NaN as 0. The sums are positive."""
    values = np.nan_to_num(np.asarray(influence, float), nan=0.0, posinf=0.0, neginf=0.0)
    return values / values.sum(1, keepdims=True)


def reached(within: np.ndarray, share: float) -> float:
    """How many of the last steps it takes until a rising curve (K,) reaches `share`; at least 1."""
    place = int(np.searchsorted(within, share - 1e-9))
    if place == 0:
        return 1.0
    if place >= len(within):
        return float(len(within))
    before, after = within[place - 1], within[place]
    return float(place + (share - before) / max(after - before, 1e-12))


def entry(found: Horizon) -> JsonObject:
    """The form of metrics.json."""
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "half": found.half,
        "if_all_steps_counted_alike": found.even,
        "examples": found.examples,
        "signature": (
            f"last steps that hold {WITHIN:.0%} of the influence, mean over examples of shares"
        ),
    }
