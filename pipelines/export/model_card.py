"""The model card: a model's data, scores, limits, and how it is called.

It is in the SavedModel's assets.extra, where TensorFlow allows other files, so that it goes
wherever the model goes. Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from __future__ import annotations

from pathlib import Path

import jinja2
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework.types_pb2 import DataType

from pipelines.core.contracts import Codec
from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.core.formatting import capitalize, number
from pipelines.core.plain_text import Markdown, escape_markdown, json_text, markdown_table
from pipelines.core.scores import Metric
from pipelines.core.sections import Table
from pipelines.core.task import Task
from pipelines.core.types import JsonObject
from pipelines.export.signature_definitions import signature_definitions
from pipelines.report.tables import exports_table, score_columns, score_rows
from pipelines.runs.directory import Run
from pipelines.runs.metrics import RunMetrics, ScoreEntry

Signatures = dict[str, tuple[dict[str, str], dict[str, str]]]
"""Inputs and outputs by signature, each a type and a shape by name."""


def write_card(run: Run, metrics: RunMetrics, task: Task, codec: Codec, title: str) -> None:
    """Writes run.card, from the metrics, the SavedModel's signatures and the task's own words."""
    imports = (run.saved_model / "assets.extra" / "imports.txt").read_text(encoding="utf-8")
    # Markdown, not HTML: what is no Markdown is escaped by `finalize`.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        finalize=escape_markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    # In blocks of code, where a line of JSON ends nothing.
    environment.filters.update(json=lambda value: Markdown(json_text(value)))
    signatures = read_signatures(run.saved_model)
    text = environment.get_template("model_card.md.j2").render(
        title=title,
        purpose=task.intended_use,
        example={name: task.example_input.get(name, "…") for name in task.input_columns},
        verdict=metrics.verdict,
        scores=markdown_table(_scores(metrics)),
        limits=[*task.limitations(codec), *_lengths(metrics), *_size(metrics)],
        source=metrics.data.source if metrics.data else {},
        splits=metrics.data.splits if metrics.data else {},
        signatures=markdown_table(_signature_table(signatures)),
        streams="stream" in signatures,
        imports=imports.split(),
        exports=markdown_table(exports_table(metrics)),
        versions=metrics.versions,
        seed=metrics.seed,
        parameters=metrics.parameters.total if metrics.parameters else None,
    )
    with atomic_write(run.card) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_signatures(saved_model: Path) -> Signatures:
    """Inputs and outputs by signature, such as {"text": "string (?)"}; loads no graph."""
    try:
        definitions = signature_definitions(saved_model)
    except DecodeError:
        raise UserError(f"{saved_model} is damaged: make it again with mode=export") from None
    return {
        name: (_tensors(definition["inputs"]), _tensors(definition["outputs"]))
        for name, definition in definitions.items()
        if not name.startswith("__")
    }


def _tensors(tensors: JsonObject) -> dict[str, str]:
    types = {}
    for name, tensor in tensors.items():
        shape = tensor["tensor_shape"]
        axes = ["?" if int(dim["size"]) < 0 else dim["size"] for dim in shape["dim"]]
        shape_text = "any shape" if shape["unknown_rank"] else f"({', '.join(axes)})"
        types[name] = f"{tf.dtypes.as_dtype(DataType.Value(tensor['dtype'])).name} {shape_text}"
    return types


def _signature_table(signatures: Signatures) -> Table:
    rows = [
        (
            _code(name),
            *(
                Markdown(", ".join(f"{_code(tensor)} {kind}" for tensor, kind in part.items()))
                for part in both
            ),
        )
        for name, both in signatures.items()
    ]
    return Table("Signatures", ("signature", "in", "out"), rows)


def _scores(metrics: RunMetrics) -> Table | None:
    """Each score with its interval, next to the baselines'; None before anything was measured."""
    if not metrics.evaluated_splits():
        return None

    def format_entry(entry: ScoreEntry | None, metric: Metric) -> str:
        if entry is None:
            return "–"
        low, high = number(entry.low, metric), number(entry.high, metric)
        return f"{number(entry.value, metric)} ({low} to {high})"

    rows = [
        (
            f"{row.metric.label} {'↑' if row.metric.higher_is_better else '↓'}",
            *(format_entry(entry, row.metric) for entry in row.entries),
        )
        for row in score_rows(metrics)
    ]
    return Table("Scores", ("score", *score_columns(metrics)), rows)


def _lengths(metrics: RunMetrics) -> list[str]:
    """Sentences on the lengths of the training data, field by field."""
    sentences = []
    for name, facts in metrics.data.codec.items() if metrics.data else ():
        if "median_length" not in facts:
            continue
        sentence = (
            f"{capitalize(name.replace('_', ' '))}: of the training data half have up to "
            f"{facts['median_length']:,} and 95% up to {facts['length_95']:,}; longer ones it has "
            "hardly seen."
        )
        if facts.get("unknown_share"):
            sentence += f" {100 * facts['unknown_share']:.1f}% were unknown, being too rare."
        if facts.get("truncated_share"):
            sentence += f" {100 * facts['truncated_share']:.1f}% of examples were cut."
        sentences.append(sentence)
    return sentences


def _size(metrics: RunMetrics) -> list[str]:
    train = metrics.data.splits.get("train") if metrics.data else None
    if train is None:
        return []
    return [
        f"It learnt from {train:,} examples of one source; on data of another kind, time or "
        "origin its scores may be lower than those above. What is unfair in the data is in it too."
    ]


def _code(name: str) -> Markdown:
    """A tensor's or signature's name, which holds no backtick: TensorFlow allows identifiers."""
    return Markdown(f"`{name}`")
