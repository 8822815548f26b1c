"""Scores in words and digits, the same in the log, in metrics.json and in the report."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.core.formatting import _POINTS, label, number, probability
from pipelines.evaluate.bootstrap import Comparison, Measurement, compare_measured


def verdict(
    name: str, network: Measurement, baselines: Mapping[str, Measurement], examples: int
) -> tuple[str, str | None, Comparison | None]:
    """A sentence that sets the network beside the strongest baseline, that baseline and the test.

    `examples` of the split that both were measured on.
    """
    entry = network.entry()
    low, high = number(entry["low"], name), number(entry["high"], name)
    own = f"{label(name)} {number(network.value, name)}, 95% interval {low} to {high}"
    if not baselines:
        return (
            f"The network scores {own}, on {examples:,} examples; nothing to compare it with.",
            None,
            None,
        )
    sign = 1 if network.score.higher_is_better else -1
    best = max(baselines, key=lambda baseline: sign * baselines[baseline].value)
    result = compare_measured(network, baselines[best])
    other = f"the strongest baseline, {best} ({number(baselines[best].value, name)})"
    sentence = f"The network ({own}) {relation(result, name, other)} "
    return f"{sentence}(paired bootstrap, {examples:,} examples).", best, result


def relation(result: Comparison, name: str, other: str) -> str:
    """The comparison as the predicate of a sentence: "is better than X, by 1.2 BLEU (0.4 to 2.1)".

    The amount is how much better or worse, whichever direction that is, with its 95% interval.
    """
    bounds = (result.low, result.high)
    if result.outcome == "equal":
        low, high = (number(bound, name) for bound in bounds)
        difference = f"difference {number(result.difference, name)}, 95% interval {low} to {high}"
        return f"does not differ significantly from {other}: {difference}, {probability(result.p)}"
    low, high = (number(bound, name) for bound in sorted(map(abs, bounds)))
    unit = f" {label(name)}" if name in _POINTS else ""
    amount = f"{number(abs(result.difference), name)}{unit} ({low} to {high})"
    return f"is {result.outcome} than {other}, by {amount}, {probability(result.p)}"
