"""Scores in words and digits, the same in the log, in metrics.json and in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pipelines.metrics.bootstrap import Comparison, Measurement, compare_measured

_LABELS = {
    "f1": "macro F1",
    "roc_auc": "ROC AUC",
    "ece": "calibration error",
    "brier": "Brier score",
    "longest_solved": "longest solved sequence",
    "error_of_guessing": "error beside guessing",
    "clipped": "share of updates clipped",
    "bleu": "BLEU",
    "chrf": "chrF++",
    "ter": "TER",
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "cider": "CIDEr-D",
    "rouge_l": "ROUGE-L",
    "meteor_exact_stem": "METEOR (exact, stem)",
}

_POINTS = ("bleu", "bleu_1", "bleu_2", "bleu_3", "chrf", "ter")
"""Scores from 0 to 100, which one decimal is enough for."""


def capitalized(text: str) -> str:
    """Beginning with a capital, and otherwise as it is: "ROC AUC", "Accuracy"."""
    return text[:1].upper() + text[1:]


def label(name: str) -> str:
    """A score's name for people: "exact_match" is "exact match"."""
    return _LABELS.get(name, name.replace("_", " "))


def number(value: float, score: str = "") -> str:
    """A value of the score that is named, and a true minus sign: "0.861", "−0.026", BLEU "7.4".

    Three decimals below 10, else one; scores of 0 to 100 always have one.
    """
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.{1 if score in _POINTS or abs(value) >= 10 else 3}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.replace("-", "")


def short(value: float) -> str:
    """Three digits and a unit: "1.41 M"; whole numbers below ten thousand."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if value >= size:
            scaled = value / (1e3 if unit == " k" else size)
            return f"{scaled:.3g}{unit}" if scaled < 1000 else f"{scaled:,.0f}{unit}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """One decimal below a minute, else two units: "12.3 s", "2 min 31 s", "1 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def probability(p: float) -> str:
    """Two decimals, or three below 0.1: "p = 0.31", "p = 0.004", "p < 0.001"."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.{3 if p < 0.0995 else 2}f}"


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
