"""Tables of what a run measured, for the report and the model card."""

from __future__ import annotations

from typing import NamedTuple

from pipelines.core.formatting import number
from pipelines.core.scores import Metric
from pipelines.core.sections import Table
from pipelines.runs.metrics import Export, RunMetrics, ScoreEntry


class ScoreRow(NamedTuple):
    """A metric, and its entries by column: None where a column lacks it."""

    metric: Metric
    signature: str
    entries: list[ScoreEntry | None]


def score_columns(metrics: RunMetrics) -> list[str]:
    """The evaluated splits, the network's parts by themselves, and the baselines."""
    splits = metrics.evaluated_splits()
    labels = [system.label for split in splits for system in metrics.compared(split)]
    return [*splits, *dict.fromkeys(labels)]


def score_rows(metrics: RunMetrics) -> list[ScoreRow]:
    splits = metrics.evaluated_splits()
    columns = [metrics.scores(split) for split in splits]
    for split in splits:
        columns += [system.scores for system in metrics.compared(split)]
    rows = []
    for name in dict.fromkeys(name for column in columns for name in column):
        entries = [column.get(name) for column in columns]
        first = next(entry for entry in entries if entry is not None)
        rows.append(ScoreRow(first.metric(name), first.signature, entries))
    return rows


def exports_table(metrics: RunMetrics) -> Table | None:
    """The files of other formats compared with the original; None if there are none."""
    exports = metrics.exports
    if not exports:
        return None
    original = {row.function: row for row in exports if row.format == "tensorflow"}
    scored = next((row.score for row in exports if row.score is not None), None)
    metric = metrics.metric(scored) if scored else None
    rows = [_export_row(row, original[row.function], metric) for row in exports]
    name = metric.label if metric else "score"
    header = ("file", "weights", "size", "a prediction", "difference", name, "loss")
    both = f" and {name}" if metric else ""
    caption = (
        "A prediction is the median for batches of one test example. The difference is the largest "
        "from the original's numbers, and what is allowed; a loss is negative where the file is "
        f"better. Difference{both} are of {exports[0].examples:,} test examples. The SavedModel "
        "holds all functions, and the text. In int8 what is small stays float32."
    )
    return Table("Numeric functions", header, rows, caption)


def _export_row(row: Export, original: Export, metric: Metric | None) -> tuple[str, ...]:
    kind = "SavedModel" if row is original else row.format
    name = row.file or f"{kind}: {row.function}"
    if row.reason is not None:
        return (name, row.precision, f"unavailable: {row.reason}", "–", "–", "–", "–")
    size = f"{(row.bytes or 0) / 1e3:,.0f} kB"
    milliseconds = f"{row.milliseconds:.3g} ms"
    apart = "–" if row.difference is None else f"{row.difference:.1g} of {row.tolerance:g}"
    value = loss = "–"
    if row.value is not None and original.value is not None:
        value = number(row.value, metric)
        if row is not original:
            loss = number(original.value - row.value, metric)
    return (name, row.precision, size, milliseconds, apart, value, loss)
