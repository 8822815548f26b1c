"""Scores, sizes and durations as text, the same in the log and in every page."""

from __future__ import annotations

import math

import numpy as np

from pipelines.core.contracts import FileBytes
from pipelines.core.scores import Metric
from pipelines.core.types import Json, Value


def capitalize(text: str) -> str:
    """The text with a capital first letter, the rest unchanged: "ROC AUC", "Accuracy"."""
    return text[:1].upper() + text[1:]


def number(value: float, metric: Metric | None = None) -> str:
    """A value as text with a true minus sign: "0.861", "−0.026", BLEU "7.4".

    Three decimals below 10, else one; a metric on a scale of 0 to 100 always has one.
    """
    if not math.isfinite(value):
        return "–"
    percent = metric is not None and metric.scale == 100
    text = f"{value:,.{1 if percent or abs(value) >= 10 else 3}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.replace("-", "")


def abbreviate(value: float) -> str:
    """A number in three digits and a unit, "1.41 M"; a whole number below ten thousand."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if value >= size:
            scaled = value / (1e3 if unit == " k" else size)
            return f"{scaled:.3g}{unit}" if scaled < 1000 else f"{scaled:,.0f}{unit}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Seconds as text: "12.3 s" below a minute, else two units: "2 min 31 s", "1 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def probability(p: float) -> str:
    """A p-value as text, to two decimals, or three below 0.1: "p = 0.31", "p < 0.001"."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.{3 if p < 0.0995 else 2}f}"


def to_readable_json(value: Value) -> Json:
    """The value as JSON that people can read; floats to six significant digits."""
    if isinstance(value, FileBytes):
        return value.name
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return f"<{len(value)} bytes>"
    if isinstance(value, np.ndarray | np.generic):
        return to_readable_json(value.tolist())
    if isinstance(value, list | tuple):
        return [to_readable_json(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value if isinstance(value, str | int | bool) or value is None else str(value)
