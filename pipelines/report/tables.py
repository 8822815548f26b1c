"""Tables of what a run measured, for the report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.core.formatting import label, number
from pipelines.core.sections import Table

_SPLITS = ("test", "validation", "train")


def evaluated(metrics: Mapping[str, Any]) -> list[str]:
    """Splits that have scores, the one that the baselines were measured on first."""
    names = [name for name in _SPLITS if isinstance(metrics.get(name), Mapping) and metrics[name]]
    return sorted(names, key=lambda name: name not in metrics.get("baselines", {}))


def score_columns(metrics: Mapping[str, Any]) -> list[str]:
    """The evaluated splits, and the baselines."""
    splits = evaluated(metrics)
    baselines = [name for split in splits for name in metrics.get("baselines", {}).get(split, {})]
    return [*splits, *dict.fromkeys(baselines)]


def score_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a score: its entries by column, None where a column lacks it."""
    splits = evaluated(metrics)
    columns: list[Mapping[str, Any]] = [metrics[split] for split in splits]
    for split in splits:
        columns += metrics.get("baselines", {}).get(split, {}).values()
    names = dict.fromkeys(name for column in columns for name in column)
    rows = []
    for name in names:
        entries = [column.get(name) for column in columns]
        first = next(entry for entry in entries if entry)
        rows.append({"name": name, "entries": entries, "about": first})
    return rows


def exports_table(metrics: Mapping[str, Any]) -> Table | None:
    """The files of other formats beside the original; None if there are none."""
    exports = metrics.get("exports") or []
    if not exports:
        return None
    original = {row["core"]: row for row in exports if row["format"] == "tensorflow"}
    scored = next((row for row in exports if "score" in row), None)
    rows = [_export_row(row, original[row["core"]]) for row in exports]
    name = label(scored["score"]) if scored else "score"
    header = ("file", "weights", "size", "a prediction", "difference", name, "loss")
    asked = f" and {name}" if scored else ""
    caption = (
        "A prediction is the median for one test example at a time. The difference is the largest "
        "from the original's numbers, and what is allowed; a loss is negative where the file is "
        f"better. Difference{asked} are of {exports[0]['examples']:,} test examples. The "
        "SavedModel holds all cores, and the text. In int8 what is small stays float32."
    )
    return Table("Numeric cores", header, rows, caption)


def _export_row(row: Mapping[str, Any], original: Mapping[str, Any]) -> tuple[str, ...]:
    kind = "SavedModel" if row is original else row["format"]
    name = row.get("file", f"{kind}: {row['core']}")
    if "reason" in row:
        return (name, row["precision"], f"can't be had: {row['reason']}", "–", "–", "–", "–")
    size = f"{row['bytes'] / 1e3:,.0f} kB"
    milliseconds = f"{row['milliseconds']:.3g} ms"
    apart = f"{row['difference']:.1g} of {row['tolerance']:g}" if "difference" in row else "–"
    value = loss = "–"
    if "score" in row:
        value = number(row["value"], row["score"])
        if row is not original:
            loss = number(original["value"] - row["value"], row["score"])
    return (name, row["precision"], size, milliseconds, apart, value, loss)
