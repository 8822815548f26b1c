"""Other formats: files of a model's numeric cores, each compared with the original and measured.

Keras' own exporters write them. Neither format knows text or searches, so that a file holds a core:
numbers in, numbers out. Its recurrent loops convert as they are, without TensorFlow's operators, as
long as what they collect has a known number of rows, which is why LiteRT's files take one example.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models.recurrent import make_portable
from pipelines.core.contracts import Split
from pipelines.core.files import atomic_replace
from pipelines.core.settings import ExportSettings
from pipelines.core.task import ExportedFunction, Streams, Trained
from pipelines.core.types import Config, JsonObject, Tensors
from pipelines.export.saved_model import ExportError
from pipelines.graphs.tracing import batch_signature
from pipelines.runs.directory import Run
from pipelines.runs.metrics import Export
from pipelines.runs.native_output import suppressed_native_stderr

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
Ask = Callable[[Arrays], Arrays]

TOLERANCES = {"float32": 1e-4, "float16": 0.02, "int8": 0.2}
"""By the weights' precision: the largest difference from the original's numbers, as a share of the
largest of them or of 1. A file that differs by more is not kept."""

NEXT = "next_"
"""Before the name of an output that is the next input of the same name."""


class Format(NamedTuple):
    """How files of a kind are written and asked.

    rows   examples at once; None for any number.
    write  (model, inputs, path, precision): raises whatever its converter does.
    """

    suffix: str
    precisions: tuple[str, ...]
    rows: int | None
    write: Callable[[keras.Model, Mapping[str, tf.TensorSpec], Path, str], None]
    open: Callable[[Path], Ask]


class Question(NamedTuple):
    """What a core is asked about one test example, and what the original answers."""

    given: Arrays
    answer: Arrays


class _Core(keras.Model):
    """A core as a model of its own, which is what the exporters take.

    What comes out under the name of what went in, such as a state, is NEXT: in ONNX a name stands
    for one thing. Tensors of no width, which some runtimes refuse, are left out.
    """

    def __init__(self, model: keras.Model, core: ExportedFunction) -> None:
        super().__init__(name="core")
        self.model, self.core = model, core
        self.specs = {name: spec for name, spec in core.inputs.items() if not _is_empty(spec)}
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        given = dict(inputs)
        for name in self.core.inputs.keys() - inputs.keys():
            axes = self.core.inputs[name].shape[:-1]
            like = next(one for one, spec in self.specs.items() if spec.shape[:-1] == axes)
            given[name] = tf.cast(inputs[like][..., :0], self.core.inputs[name].dtype)
        outputs = self.core.run(**given)
        return {
            f"{NEXT}{name}" if name in self.core.inputs else name: value
            for name, value in outputs.items()
            if not _is_empty(value)
        }


def _is_empty(tensor: np.ndarray | tf.Tensor | tf.TensorSpec) -> bool:
    return 0 in tensor.shape


def export_formats(
    trained: Trained, split: Split, settings: ExportSettings, run: Run
) -> list[Export]:
    """Writes run.exports anew: <format>/<core>[.<precision>].<suffix>. Returns a row a file.

    A row holds format, core and precision, and either file, bytes and what _Judge measures, or
    `reason`, why the file is unavailable; that never ends the run. A core's first row is the
    original's, whose bytes are the SavedModel's.
    """
    task, model = trained.task, trained.model
    make_portable(model)
    new = run.exports.with_name(f".{os.getpid()}.exports")
    rows: list[JsonObject] = []
    try:
        functions = functions_of(trained)
        if not functions:
            log.warning("export.formats: task=%s has no numeric function to export.", task.name)
        for name, core in functions.items():
            judge = _Judge(trained, core, split, settings.sample)
            rows.append(judge.original(name) | {"bytes": _size(run.saved_model)})
            for kind in settings.formats:
                for precision in FORMATS[kind].precisions:
                    row = {"format": kind, "core": name, "precision": precision}
                    row |= _written(new / kind, _Core(model, core), row, judge)
                    rows.append(row)
        new.mkdir(exist_ok=True)
        atomic_replace(new, run.exports)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return [Export(**row) for row in rows]


def functions_of(trained: Trained) -> dict[str, ExportedFunction]:
    """The task's own ones, and a step of those that stream."""
    task = trained.task
    step = task.stream(trained) if isinstance(task, Streams) else None
    return task.numeric_functions(trained) | ({} if step is None else {"stream": step})


def _written(folder: Path, model: _Core, row: Mapping[str, str], judge: _Judge) -> JsonObject:
    """The rest of a file's row; without the file if it is unavailable or differs too much."""
    form, precision = FORMATS[row["format"]], row["precision"]
    mark = "" if precision == "float32" else f".{precision}"
    path = folder / f"{row['core']}{mark}.{form.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {
        name: tf.TensorSpec([form.rows, *spec.shape[1:]], spec.dtype, name=name)
        for name, spec in model.specs.items()
    }
    try:
        with suppressed_native_stderr():
            form.write(model, inputs, path, precision)
            ask = form.open(path)
        measured = judge(ask, TOLERANCES[precision])
    except Exception as error:  # of so many libraries: whatever it is, the run goes on
        path.unlink(missing_ok=True)
        reason = _reason(error)
        log.warning("%s of %s, %s: unavailable: %s", *row.values(), reason)
        return {"reason": reason}
    measured |= {"file": f"{row['format']}/{path.name}", "bytes": path.stat().st_size}
    log.info(
        "exports/%s: %.0f kB, %.2f ms", measured["file"], path.stat().st_size / 1e3,
        measured["milliseconds"],
    )  # fmt: skip
    return measured


class _Judge:
    """Asks the original and every file of a core about the same examples of the test split."""

    def __init__(self, trained: Trained, core: ExportedFunction, split: Split, sample: int):
        task, codec = trained.task, trained.codec
        self.task, self.core, self.split = task, core, split
        count = min(sample, len(self.split))
        self.rows = np.linspace(0, len(self.split) - 1, count).astype(int)
        run = tf.function(core.run, autograph=False).get_concrete_function(**core.inputs)
        given: Callable[..., Tensors] | None = None
        self.questions, self.seconds = [], []
        for row in self.rows:
            batch = task.batch(self.split.gather(np.asarray([row])), codec)
            if given is None:
                given = tf.function(
                    core.from_batch,
                    input_signature=[batch_signature(codec.spec, batch).inputs],
                    autograph=False,
                )
            said = given({name: tf.convert_to_tensor(x) for name, x in batch.inputs.items()})
            asked = {name: said[name] for name in core.inputs}
            start = time.perf_counter()
            answer = {name: value.numpy() for name, value in run(**asked).items()}
            self.seconds.append(time.perf_counter() - start)
            arrays = {name: value.numpy() for name, value in asked.items()}
            self.questions.append(Question(arrays, answer))

    def original(self, name: str) -> JsonObject:
        row = {"format": "tensorflow", "core": name, "precision": "float32"}
        answers = [question.answer for question in self.questions]
        return row | _speed(self.seconds) | self._score(answers)

    def __call__(self, ask: Ask, tolerance: float) -> JsonObject:
        """Milliseconds a prediction (median), difference, and the score where it predicts.

        Raises ExportError if the answers are too far from the original's.
        """
        answers, seconds, difference = [], [], 0.0
        for given, expected in self.questions:
            start = time.perf_counter()
            said = ask({name: value for name, value in given.items() if not _is_empty(value)})
            seconds.append(time.perf_counter() - start)
            answers.append({name.removeprefix(NEXT): value for name, value in said.items()})
            difference = max(difference, _difference(answers[-1], expected))
        if not difference <= tolerance:
            raise ExportError(f"answers differ by {difference:.2g}, and may by {tolerance:g}")
        measured = {"difference": difference, "tolerance": tolerance}
        return _speed(seconds) | measured | self._score(answers)

    def _score(self, answers: list[Arrays]) -> JsonObject:
        """The task's first score, on the examples that were asked about."""
        if not self.core.predicts:
            return {}
        # The others count nothing: they are given an answer of another example, any will do.
        nearest = np.searchsorted(self.rows, np.arange(len(self.split)))
        nearest = np.minimum(nearest, len(self.rows) - 1)
        predictions = {
            name: np.concatenate([answer[name] for answer in answers])[nearest]
            for name in answers[0]
        }
        weights = np.zeros((1, len(self.split)))
        weights[0, self.rows] = 1
        name, score = next(iter(self.task.score(predictions, self.split).items()))
        return {"score": name, "value": float(score.of(weights)[0])}


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _speed(seconds: list[float]) -> JsonObject:
    return {"milliseconds": 1e3 * float(np.median(seconds)), "examples": len(seconds)}


def _difference(answer: Arrays, expected: Arrays) -> float:
    """Largest, as a share of the largest number of the same output or of 1; inf if not finite."""
    largest = 0.0
    for name, values in expected.items():
        if _is_empty(values):
            continue
        here, there = values.astype(np.float64), answer[name].astype(np.float64)
        if here.shape != there.shape or not np.all(np.isfinite(there)):
            return float("inf")
        largest = max(largest, np.abs(here - there).max() / max(1.0, np.abs(here).max()))
    return float(largest)


def _reason(error: Exception) -> str:
    """One line: of a converter's pages, the one that names the operator."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "error: '" in line or "op is neither" in line]
    line = (named or lines or [type(error).__name__])[0]
    return line.rpartition("error: ")[2][:200]


def _write_litert(
    model: keras.Model, inputs: Mapping[str, tf.TensorSpec], path: Path, precision: str
) -> None:
    # Built-in operators only: who runs such a file has no TensorFlow to call upon ("Flex").
    target: Config = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    options: Config = {}
    if precision != "float32":
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        target["supported_types"] = [tf.float16]
    model.export(
        path, "litert", verbose=False, input_signature=[inputs], target_spec=target, **options
    )


def _open_litert(path: Path) -> Ask:
    from ai_edge_litert.interpreter import Interpreter

    # It has one signature, and belongs to the interpreter: both are kept.
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    return lambda given: runner(**given)


def _write_onnx(
    model: keras.Model, inputs: Mapping[str, tf.TensorSpec], path: Path, precision: str
) -> None:
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras asks numpy for a name of old
        model.export(str(path), "onnx", verbose=False, input_signature=[inputs])


def _open_onnx(path: Path) -> Ask:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda given: dict(zip(names, session.run(names, given), strict=True))


FORMATS = {
    "litert": Format("tflite", ("float32", "float16", "int8"), 1, _write_litert, _open_litert),
    "onnx": Format("onnx", ("float32",), None, _write_onnx, _open_onnx),
}
