"""Export: a SavedModel from raw values to answers, which a fresh process verifies."""

from __future__ import annotations

import base64
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.recurrent import make_portable
from pipelines.core.contracts import Codec, Split
from pipelines.core.errors import UserError
from pipelines.core.files import atomic_replace
from pipelines.core.settings import ExportSettings
from pipelines.core.task import (
    Decodes,
    Explains,
    ExportedFunction,
    Signature,
    Streams,
    Task,
    Trained,
)
from pipelines.core.types import Example, Json, JsonObject, Nest, Tensors
from pipelines.export.client import OPERATORS
from pipelines.graphs.prediction import answer_graph, gather_batch, input_specs, prediction_inputs
from pipelines.runs.directory import Run

log = logging.getLogger(__name__)

TOLERANCE = 1e-5
"""Largest absolute difference between two processes' numbers for the same example."""


class ExportError(RuntimeError):
    """The export doesn't give the model's answers: a defect, not a user's mistake."""


class Served(tf.Module):
    """Owns what the graph needs: the model's variables and the codec's tables."""

    def __init__(self, trained: Trained):
        super().__init__()
        fields = trained.codec.fields.values()
        self.variables_ = [variable.value for variable in trained.model.variables]
        self.resources_ = [resource for part in fields for resource in part.resources]
        answer = answer_graph(trained)
        self.answer = tf.function(lambda **columns: answer(columns), autograph=False)
        serving = self.answer.get_concrete_function(**input_specs(trained))
        self.endpoints = {"serving_default": serving}
        if isinstance(trained.task, Decodes):
            self.endpoints[trained.decode.strategy] = serving
        for name, (run, inputs) in signatures_of(trained).items():
            graph = tf.function(run, autograph=False)
            self.endpoints[name] = graph.get_concrete_function(**inputs)


def signatures_of(trained: Trained) -> dict[str, Signature]:
    """The task's signatures, and those of its capabilities, by name."""
    task = trained.task
    signatures = task.signatures(trained)
    if isinstance(task, Explains):
        signatures["explain"] = task.explain(trained)
    step = task.stream(trained) if isinstance(task, Streams) else None
    if step is not None:
        signatures["stream"] = _with_answers(trained, step)
    return signatures


def _with_answers(trained: Trained, step: ExportedFunction) -> Signature:
    """The signature of a step that returns readable answers next to its predictions."""

    def stream(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        predictions = dict(step.run(**inputs))
        return {**trained.task.decode_predictions(predictions, trained.codec), **predictions}

    return Signature(stream, step.inputs)


def export(trained: Trained, split: Split, settings: ExportSettings, run: Run) -> None:
    """Writes run.saved_model, whole or not at all, and only if a fresh process gives its answers.

    split  whose examples a fresh process predicts. Raises ExportError if the answers differ.
    """
    make_portable(trained.model)
    served = Served(trained)
    new = run.saved_model.with_name(f".{os.getpid()}.saved_model")
    try:
        # Gradients are for training; the recurrent layers' own can't be saved.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(served, str(new), served.endpoints, options)
        write_imports(new, trained.codec)
        if settings.verify:
            rows = np.linspace(0, len(split) - 1, min(settings.verify, len(split))).astype(int)
            answers = _answers(trained, gather_batch(trained, split, rows).inputs)
            verify(new, trained.task, split.examples(rows.tolist()), answers)
        atomic_replace(new, run.saved_model)
    except tf.errors.OpError as error:
        # What the file system refuses comes as many classes, always with the file's name.
        if str(new) not in error.message:
            raise
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise UserError(f"{run.saved_model}: {reason}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    log.info("SavedModel: %s", run.saved_model)


def _answers(trained: Trained, inputs: Mapping[str, Nest]) -> Tensors:
    """The model's answers to prepared examples."""
    given = prediction_inputs(trained, inputs)
    tensors = {name: tf.convert_to_tensor(value) for name, value in given.items()}
    # For any number of rows, as in serving: a graph of a fixed size rounds differently.
    signature = {
        name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
        for name, tensor in tensors.items()
    }
    predict = tf.function(
        lambda given: trained.task.predict(trained, given, detail=True),
        input_signature=[signature],
        autograph=False,
    )
    return trained.task.decode_predictions(predict(tensors), trained.codec)


def write_imports(directory: Path, codec: Codec) -> None:
    """Lists the modules that must be imported before the graph is loaded; see client.py."""
    modules = sorted({name for part in codec.fields.values() for name in part.operators})
    if unknown := set(modules) - set(OPERATORS):
        raise ValueError(f"client.OPERATORS must have all of a codec's; it lacks {unknown}")
    extra = directory / "assets.extra"
    extra.mkdir()
    (extra / "imports.txt").write_text("".join(f"{name}\n" for name in modules))


def verify(directory: Path, task: Task, examples: list[Example], answers: Tensors) -> None:
    """Compares the SavedModel's answers to raw examples in a fresh process with the model's.

    answers  the model's, by name, each (N, ...), to the same examples as they were prepared: so
             tokens made in the graph are compared with those that were trained on.
    """
    raw_examples = map(task.example, examples)
    rows = [{name: example[name] for name in task.input_columns} for example in raw_examples]
    here = {name: np.asarray(value) for name, value in answers.items()}
    for index, there in enumerate(_ask(directory, rows)):
        for name, values in here.items():
            if not _agree(values[index], there[name]):
                raise ExportError(
                    f"the SavedModel must give the model's answers; for test example {index} "
                    f"{name} is {there[name]!r} in a fresh process and {values[index]!r} here"
                )
    log.info("A fresh process gives the same answers for %d test examples.", len(rows))


def _ask(directory: Path, rows: list[JsonObject]) -> list[JsonObject]:
    lines = "".join(json.dumps(row, default=_base64) + "\n" for row in rows)
    script = Path(__file__).with_name("client.py")
    # From another directory, and without PYTHONPATH, nothing of this project can be imported.
    process = subprocess.run(
        [sys.executable, "-I", str(script), str(directory.resolve())],
        input=lines,
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=directory,
    )
    if process.returncode:
        raise ExportError(
            f"the SavedModel can't be used in a fresh process: {process.stderr[-2000:]}"
        )
    return [json.loads(line) for line in process.stdout.splitlines()]


def _base64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def _agree(here: Json, there: Json) -> bool:
    values, other = np.asarray(here), np.asarray(there)
    if values.ndim and values.shape != other.shape and values.ndim == other.ndim:
        # How far a batch is padded depends on its longest example.
        shape = np.maximum(values.shape, other.shape)
        values, there = _pad_to(values, shape), _pad_to(other, shape)
    if values.dtype.kind in "SOU":
        as_text = np.vectorize(
            lambda v: v.decode() if isinstance(v, bytes) else str(v), otypes=[object]
        )
        return bool(np.array_equal(as_text(values), np.asarray(there, dtype=object)))
    return bool(np.allclose(values, np.asarray(there), atol=TOLERANCE, rtol=0))


def _pad_to(values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """The values padded on the right to a shape, with 0 or empty text."""
    padded = np.full(shape, "" if values.dtype.kind in "SOU" else 0, values.dtype)
    padded[tuple(slice(n) for n in values.shape)] = values
    return padded
