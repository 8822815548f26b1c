"""Comparisons in words: whether the network is better than other systems."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.core.formatting import number, probability
from pipelines.core.scores import Metric
from pipelines.evaluate.bootstrap import Measurement, compare_measurements
from pipelines.runs.metrics import BaselineComparison, Comparison


def judge(
    network: Mapping[str, Measurement],
    baselines: Mapping[str, Mapping[str, Measurement]],
    labels: Mapping[str, str],
    examples: int,
) -> tuple[str, BaselineComparison | None]:
    """A sentence that compares the network with the strongest baseline, and the numbers behind it.

    By the most important metric that is defined on the split, which has so many examples; labels
    are the baselines' names in words. None where there is no baseline.
    """
    if not network:
        return "No score is defined on this split.", None
    name, own = next(iter(network.items()))
    measurements = {key: scores[name] for key, scores in baselines.items() if name in scores}
    metric, entry = own.metric, own.entry()
    low, high = number(entry.low, metric), number(entry.high, metric)
    value = f"{metric.label} {number(own.value, metric)}, 95% interval {low} to {high}"
    if not measurements:
        return (
            f"The network scores {value}, on {examples:,} examples; nothing to compare it with.",
            None,
        )
    best = max(measurements, key=lambda key: metric.sign * measurements[key].value)
    result = compare_measurements(own, measurements[best])
    other = f"the strongest baseline, {labels[best]} ({number(measurements[best].value, metric)})"
    sentence = (
        f"The network ({value}) {relation(result, metric, other)} "
        f"(paired bootstrap, {examples:,} examples)."
    )
    return sentence, BaselineComparison(score=name, baseline=best, **result.model_dump())


def relation(result: Comparison, metric: Metric, other: str) -> str:
    """The comparison as the predicate of a sentence: "is better than X, by 1.2 BLEU (0.4 to 2.1)".

    The amount is how much better or worse, whichever direction that is, with its 95% interval.
    """
    bounds = (result.low, result.high)
    if result.outcome == "equal":
        low, high = (number(bound, metric) for bound in bounds)
        difference = f"difference {number(result.difference, metric)}, 95% interval {low} to {high}"
        return f"does not differ significantly from {other}: {difference}, {probability(result.p)}"
    low, high = (number(bound, metric) for bound in sorted(map(abs, bounds)))
    unit = f" {metric.label}" if metric.scale == 100 else ""
    amount = f"{number(abs(result.difference), metric)}{unit} ({low} to {high})"
    return f"is {result.outcome} than {other}, by {amount}, {probability(result.p)}"
