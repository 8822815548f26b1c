"""The report: one HTML file without any outside resource, made from what a run measured.

A pure function of metrics.json, the history and the task's sections, so that it can be made again.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from pipelines.core.contracts import Provenance
from pipelines.core.files import atomic_write
from pipelines.core.formatting import abbreviate, duration, number, probability
from pipelines.core.paths import TEMPLATES
from pipelines.core.plain_text import show_controls
from pipelines.core.scores import Metric
from pipelines.core.sections import Figure, Passages, Section, Table
from pipelines.core.types import JsonObject
from pipelines.report.plots import (
    PALETTE,
    HistoryRow,
    compare_baselines,
    learning_curves,
    plot_by_length,
    svgs,
    text_columns,
)
from pipelines.report.tables import exports_table, score_columns, score_rows
from pipelines.runs.metrics import DataFacts, RunMetrics

if TYPE_CHECKING:
    import jinja2

EXPANDED = 260
"""Characters of a text that are shown before the reader asks for the rest."""

_NUMBER = re.compile(r"[−-]?[\d.,]+( %)?|–")

LONG, SHORT = 40, 10
"""Columns of text above which a cell is a paragraph, and up to which it stays on one line."""


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """The content of a run's report.

    metrics   what was measured. What it lacks is left out of the report.
    history   a row for each evaluation while training.
    sections  the task's own.
    remembered, warnings  what diagnostics of the recurrent layers found.
    """

    metrics: RunMetrics
    history: Sequence[HistoryRow]
    sections: Sequence[Section]
    provenance: Provenance
    config_yaml: str
    remembered: Sequence[Section] = ()
    warnings: Sequence[str] = ()


def report(directory: Path, content: ReportContent, *, made: datetime.date | None = None) -> Path:
    """Writes report.html and plots/*.svg into the directory; returns the report's path."""
    metrics, provenance = content.metrics, content.provenance
    drawn = Drawing(directory / "plots")
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            heading=_heading(metrics, provenance, made or datetime.date.today()),
            outcome=metrics.comparison.outcome if metrics.comparison else None,
            verdict=metrics.verdict,
            against=_against(metrics),
            cards=_cards(metrics),
            scores=score_rows(metrics),
            columns=score_columns(metrics),
            comparison=drawn.each(_comparison(metrics)),
            curves=drawn.each(learning_curves(content.history, metrics.metric)),
            lengths=drawn.each(_lengths(metrics)),
            own=[drawn.section(section) for section in content.sections],
            remembered=[drawn.section(section) for section in content.remembered],
            warnings=content.warnings,
            exports=exports_table(metrics),
            splits=_splits_table(metrics.data),
            data=_flat(metrics.data.model_dump(exclude=_SHOWN_APART)) if metrics.data else [],
            leaks=[leak.sentence for leak in metrics.data.leaks] if metrics.data else [],
            bad_rows=metrics.data.bad_rows if metrics.data else 0,
            bad_row_examples=metrics.data.bad_row_examples if metrics.data else [],
            provenance=provenance,
            costs=_costs(metrics),
            versions=_flat(metrics.versions) + _facts(metrics.machine),
            command=metrics.command,
            config=content.config_yaml,
            palette=PALETTE,
        )
    )
    path = directory / "report.html"
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


class Drawing:
    """Figures as SVG, for the page and as plots/<name>.svg; names are unique within a report."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.names: set[str] = set()

    def each(self, figures: Iterable[Figure]) -> list[JsonObject]:
        return [self.section(figure) for figure in figures]

    def section(self, section: Section) -> JsonObject:
        """The values that the template needs for the section."""
        kind = {Figure: "figure", Table: "table", Passages: "passages"}[type(section)]
        shown: JsonObject = {"kind": kind, "it": section, "name": self._name(section.title)}
        if isinstance(section, Figure):
            shown["svg"], alone = svgs(section, shown["name"])
            with atomic_write(self.directory / f"{shown['name']}.svg") as temporary:
                temporary.write_text(alone, encoding="utf-8")
        return shown

    def _name(self, title: str) -> str:
        stem = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_") or "plot"
        # An id starts with a letter.
        stem = stem if stem[0].isalpha() else f"plot_{stem}"
        name, count = stem, 1
        while name in self.names:
            count += 1
            name = f"{stem}_{count}"
        self.names.add(name)
        return name


def environment() -> jinja2.Environment:
    """The environment of the pages' templates, with their filters."""
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_show_controls,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters.update(
        number=number,
        cell=_cell,
        beginning=_beginning,
        shape=_shape,
        stacks=_stacks,
    )
    return templates


def _show_controls(value: object) -> object:
    """A text, or markup, without control characters, which HTML doesn't allow."""
    return type(value)(show_controls(value)) if isinstance(value, str) else value


def _heading(metrics: RunMetrics, provenance: Provenance, made: datetime.date) -> dict[str, str]:
    return {
        "title": title(metrics),
        "data": provenance.name,
        "seed": "–" if metrics.seed is None else str(metrics.seed),
        "date": f"{made.day} {made:%B %Y}",
    }


def title(metrics: RunMetrics) -> str:
    """Task and model in words."""
    task, model = metrics.task or "run", metrics.model or "network"
    return f"{task.replace('_', ' ').capitalize()} with {_MODELS.get(model, model)}"


_MODELS = {
    "simple_rnn": "a simple RNN",
    "lstm": "an LSTM",
    "gru": "a GRU",
    "bi_simple_rnn": "a bidirectional simple RNN",
    "bi_lstm": "a bidirectional LSTM",
    "bi_gru": "a bidirectional GRU",
}


def _cards(metrics: RunMetrics) -> list[dict[str, str]]:
    """The numbers that a reader wants first: name, value, and a line below."""
    cards = []
    for split in metrics.evaluated_splits()[:1]:
        name, entry = next(iter(metrics.scores(split).items()))
        metric = entry.metric(name)
        span = f"95% {number(entry.low, metric)} to {number(entry.high, metric)}"
        value = number(entry.value, metric)
        cards.append({"name": f"{split} {metric.label}", "value": value, "note": span})
        if metrics.comparison is not None:
            baseline = metrics.baselines[split][metrics.comparison.baseline]
            best = number(baseline.scores[metrics.comparison.score].value, metric)
            cards.append({"name": "best baseline", "value": best, "note": baseline.label})
    if metrics.parameters is not None:
        total, trained = metrics.parameters.total, metrics.parameters.trainable
        note = "all of them trained" if trained == total else f"{trained:,} of them trained"
        cards.append({"name": "parameters", "value": abbreviate(total), "note": note})
    if metrics.seconds:
        seconds = metrics.seconds
        total_seconds = seconds.get("total", sum(seconds.values()))
        note = f"{duration(seconds['train'])} of it training" if "train" in seconds else ""
        cards.append({"name": "total time", "value": duration(total_seconds), "note": note})
    if "evaluate" in metrics.throughput:
        rate = f"{abbreviate(metrics.throughput['evaluate'])}/s"
        cards.append({"name": "predictions", "value": rate, "note": "examples, in batches"})
    return cards


def _against(metrics: RunMetrics) -> JsonObject | None:
    """The comparison with another run, and a table of their scores."""
    against = metrics.against
    if against is None:
        return None
    rows = []
    for name, entry in against.scores.items():
        metric = Metric(name, entry.label, entry.higher_is_better, entry.scale)
        values = (entry.value + entry.difference, entry.value, entry.difference)
        interval = f"{number(entry.low, metric)} to {number(entry.high, metric)}"
        shown = [number(value, metric) for value in values]
        p = probability(entry.p).removeprefix("p = ")
        rows.append((metric.label, *shown, interval, p, entry.outcome))
    header = ("score", "this run", "other run", "difference", "95% interval", "p", "this run is")
    caption = f"The other run is {against.run}; paired bootstrap on the {against.split} split."
    table = Table("Compared with the other run", header, rows, caption)
    return {"verdict": against.verdict, "outcome": against.outcome, "table": table}


def _comparison(metrics: RunMetrics) -> list[Figure]:
    for split in metrics.evaluated_splits()[:1]:
        name, entry = next(iter(metrics.scores(split).items()))
        baselines = {
            system.label: system.scores[name]
            for system in metrics.compared(split)
            if name in system.scores
        }
        return [compare_baselines(entry.metric(name), entry, baselines)] if baselines else []
    return []


def _lengths(metrics: RunMetrics) -> list[Figure]:
    for split in metrics.evaluated_splits()[:1]:
        buckets = metrics.by_length.get(split, [])
        if len(buckets) > 1:
            name, entry = next(iter(metrics.scores(split).items()))
            return [plot_by_length(buckets, entry.metric(name))]
    return []


_SHOWN_APART = {"leaks", "source", "splits", "strata", "bad_row_examples"}

MOST_STRATA = 8


def _splits_table(data: DataFacts | None) -> Table | None:
    """Examples of each split and, where they are few, of each value that the division balanced."""
    if data is None or not data.splits:
        return None
    values = list(dict.fromkeys(value for counts in data.strata.values() for value in counts))
    values = values if len(values) <= MOST_STRATA else []
    rows = [
        (name, size, *(data.strata.get(name, {}).get(value, 0) for value in values))
        for name, size in data.splits.items()
    ]
    return Table("Splits", ("split", "examples", *values), rows)


def _costs(metrics: RunMetrics) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        (f"time: {name}", duration(value)) for name, value in metrics.seconds.items()
    ]
    rows += [
        (f"memory: {_with_spaces(name.removesuffix('_mb'))}", f"{value:,.0f} MB")
        for name, value in metrics.memory.items()
    ]
    rows += [
        (f"throughput: {_with_spaces(name)}", f"{value:,.0f} /s")
        for name, value in metrics.throughput.items()
    ]
    rows += [
        (f"padding among the positions of {split}", f"{100 * share:.1f} %")
        for split, share in metrics.padding.items()
    ]
    for name in ("parameters", "epochs", "training"):
        rows += _facts(getattr(metrics, name), f"{name}: ")
    return rows


def _with_spaces(name: str) -> str:
    return name.replace("_", " ").replace(".", " ")


def _facts(facts: BaseModel | None, before: str = "") -> list[tuple[str, object]]:
    return _flat(facts.model_dump(), before) if facts is not None else []


def _flat(values: Mapping[str, object], before: str = "") -> list[tuple[str, object]]:
    """Nested facts as rows: {"codec": {"tokens": {"size": 5}}} is ("codec: tokens: size", 5)."""
    rows: list[tuple[str, object]] = []
    for key, value in values.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name}: ")
        elif value is not None:
            rows.append(
                (name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else value)
            )
    return rows


def _cell(value: object) -> object:
    """A table's cell: integers with separators, other numbers as scores are."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return value
    return f"{value:,}" if isinstance(value, int) else number(value)


def _shape(value: object) -> str:
    """How a cell is laid out: as a number, a word on one line, a phrase or a paragraph."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return "number"
    columns = text_columns(value)
    return "long" if columns > LONG else "phrase" if columns > SHORT else "word"


def _stacks(table: Table) -> bool:
    """Whether a row holds several paragraphs, which a narrow screen shows one below another."""
    return any([_shape(value) for value in row].count("long") > 1 for row in table.rows)


def _beginning(value: object) -> str | None:
    """The start of a text that is too long to be shown whole; None for one that isn't."""
    if not isinstance(value, str) or hasattr(value, "__html__") or len(value) <= EXPANDED:
        return None
    start = value.strip()[:EXPANDED]
    return (start.rpartition(" ")[0] or start) + " …"
