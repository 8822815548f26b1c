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
    "bleu": "BLEU",
    "chrf": "chrF",
    "cider": "CIDEr-D",
    "rouge_l": "ROUGE-L",
}


def label(name: str) -> str:
    """A score's name for people: "exact_match" is "exact match"."""
    return _LABELS.get(name, name.replace("_", " "))


def number(value: float) -> str:
    """Three decimals below 10, else one, and a true minus sign: "0.861", "27.4", "−0.026"."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.{3 if abs(value) < 10 else 1}f}"
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
    return "p < 0.01" if p < 0.01 else f"p = {p:.2f}"


def verdict(
    name: str, network: Measurement, baselines: Mapping[str, Measurement], examples: int
) -> tuple[str, str | None, Comparison | None]:
    """A sentence that sets the network beside the strongest baseline, that baseline and the test.

    `examples` of the split that both were measured on.
    """
    low, high = network.entry()["low"], network.entry()["high"]
    own = f"{label(name)} {number(network.value)}, 95% interval {number(low)} to {number(high)}"
    if not baselines:
        return (
            f"The network scores {own}, on {examples:,} examples; nothing to compare it with.",
            None,
            None,
        )
    sign = 1 if network.score.higher_is_better else -1
    best = max(baselines, key=lambda baseline: sign * baselines[baseline].value)
    result = compare_measured(network, baselines[best])
    relation = {
        "better": "is better than",
        "equal": "does not differ significantly from",
        "worse": "is worse than",
    }[result.outcome]
    sentence = (
        f"The network ({own}) {relation} the strongest baseline, {best} "
        f"({number(baselines[best].value)}): difference {number(result.difference)}, "
        f"95% interval {number(result.low)} to {number(result.high)}, {probability(result.p)} "
        f"(paired bootstrap, {examples:,} examples)."
    )
    return sentence, best, result
