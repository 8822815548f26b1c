"""Other formats: a file for each numeric function of a model, compared with the original.

Keras' own exporters write them. Neither format knows text or searches, so a file holds a function
from numbers to numbers. Recurrent loops convert without TensorFlow's own operators as long as the
outputs that they collect have a known number of rows, so LiteRT's files take one example.
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
from pipelines.runs.native_output import suppress_native_stderr

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
Runner = Callable[[Arrays], Arrays]
"""Runs an exported file: input arrays by name to output arrays by name."""

TOLERANCES = {"float32": 1e-4, "float16": 0.02, "int8": 0.2}
"""By the weights' precision: the largest difference from the original's numbers, as a share of the
largest of them or of 1. A file that differs by more is deleted."""

NEXT = "next_"
"""Prefix of an output that is the next input of the same name."""


class Format(NamedTuple):
    """How files of a format are written and run.

    rows   batch size of the files; None for any.
    write  (model, inputs, path, precision): raises whatever its converter does.
    """

    suffix: str
    precisions: tuple[str, ...]
    rows: int | None
    write: Callable[[keras.Model, Mapping[str, tf.TensorSpec], Path, str], None]
    open: Callable[[Path], Runner]


class Sample(NamedTuple):
    """The inputs of a function for one test example, and the original's outputs."""

    inputs: Arrays
    outputs: Arrays


class _FunctionModel(keras.Model):
    """A function as a model of its own, which is what the exporters take.

    An output with the name of an input, such as a state, gets the prefix NEXT: names in ONNX are
    unique. Tensors of no width, which some runtimes refuse, are left out.
    """

    def __init__(self, model: keras.Model, function: ExportedFunction) -> None:
        super().__init__(name="function")
        self.model, self.function = model, function
        self.specs = {name: spec for name, spec in function.inputs.items() if not _is_empty(spec)}
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        tensors = dict(inputs)
        for name in self.function.inputs.keys() - inputs.keys():
            axes = self.function.inputs[name].shape[:-1]
            like = next(other for other, spec in self.specs.items() if spec.shape[:-1] == axes)
            tensors[name] = tf.cast(inputs[like][..., :0], self.function.inputs[name].dtype)
        outputs = self.function.run(**tensors)
        return {
            f"{NEXT}{name}" if name in self.function.inputs else name: value
            for name, value in outputs.items()
            if not _is_empty(value)
        }


def _is_empty(tensor: np.ndarray | tf.Tensor | tf.TensorSpec) -> bool:
    return 0 in tensor.shape


def export_formats(
    trained: Trained, split: Split, settings: ExportSettings, run: Run
) -> list[Export]:
    """Writes run.exports anew: <format>/<function>[.<precision>].<suffix>. Returns a row a file.

    A row holds format, function and precision, and either file, bytes and what _Comparison
    measures, or `reason`, why the file is unavailable; that never ends the run. A function's first
    row is the original's, whose bytes are the SavedModel's.
    """
    task, model = trained.task, trained.model
    make_portable(model)
    new = run.exports.with_name(f".{os.getpid()}.exports")
    rows: list[JsonObject] = []
    try:
        functions = functions_of(trained)
        if not functions:
            log.warning("export.formats: task=%s has no numeric function to export.", task.name)
        for name, function in functions.items():
            comparison = _Comparison(trained, function, split, settings.sample)
            rows.append(comparison.original(name) | {"bytes": _size(run.saved_model)})
            for kind in settings.formats:
                for precision in FORMATS[kind].precisions:
                    row = {"format": kind, "function": name, "precision": precision}
                    wrapper = _FunctionModel(model, function)
                    row |= _export_file(new / kind, wrapper, row, comparison)
                    rows.append(row)
        new.mkdir(exist_ok=True)
        atomic_replace(new, run.exports)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return [Export(**row) for row in rows]


def functions_of(trained: Trained) -> dict[str, ExportedFunction]:
    """The task's numeric functions by name, with "stream" if the model can stream."""
    task = trained.task
    step = task.stream(trained) if isinstance(task, Streams) else None
    return task.numeric_functions(trained) | ({} if step is None else {"stream": step})


def _export_file(
    folder: Path, model: _FunctionModel, row: Mapping[str, str], comparison: _Comparison
) -> JsonObject:
    """Writes a file and returns the rest of its row: without `file` if it failed or differs."""
    form, precision = FORMATS[row["format"]], row["precision"]
    mark = "" if precision == "float32" else f".{precision}"
    path = folder / f"{row['function']}{mark}.{form.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {
        name: tf.TensorSpec([form.rows, *spec.shape[1:]], spec.dtype, name=name)
        for name, spec in model.specs.items()
    }
    try:
        with suppress_native_stderr():
            form.write(model, inputs, path, precision)
            runner = form.open(path)
        measured = comparison.measure(runner, TOLERANCES[precision])
    except Exception as error:  # whatever a converter raises, the run goes on
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


class _Comparison:
    """Runs the original and every file of a function on the same examples of the test split."""

    def __init__(self, trained: Trained, function: ExportedFunction, split: Split, sample: int):
        task, codec = trained.task, trained.codec
        self.task, self.function, self.split = task, function, split
        count = min(sample, len(self.split))
        self.rows = np.linspace(0, len(self.split) - 1, count).astype(int)
        run = tf.function(function.run, autograph=False).get_concrete_function(**function.inputs)
        from_batch: Callable[..., Tensors] | None = None
        self.samples, self.seconds = [], []
        for row in self.rows:
            batch = task.batch(self.split.gather(np.asarray([row])), codec)
            if from_batch is None:
                from_batch = tf.function(
                    function.from_batch,
                    input_signature=[batch_signature(codec.spec, batch).inputs],
                    autograph=False,
                )
            tensors = from_batch(
                {name: tf.convert_to_tensor(x) for name, x in batch.inputs.items()}
            )
            inputs = {name: tensors[name] for name in function.inputs}
            start = time.perf_counter()
            outputs = {name: value.numpy() for name, value in run(**inputs).items()}
            self.seconds.append(time.perf_counter() - start)
            arrays = {name: value.numpy() for name, value in inputs.items()}
            self.samples.append(Sample(arrays, outputs))

    def original(self, name: str) -> JsonObject:
        """The row of the original function."""
        row = {"format": "tensorflow", "function": name, "precision": "float32"}
        outputs = [sample.outputs for sample in self.samples]
        return row | _timing(self.seconds) | self._score(outputs)

    def measure(self, runner: Runner, tolerance: float) -> JsonObject:
        """Milliseconds a prediction (median), difference, and the score where it predicts.

        Raises ExportError if the outputs are too far from the original's.
        """
        results, seconds, difference = [], [], 0.0
        for inputs, expected in self.samples:
            start = time.perf_counter()
            outputs = runner(
                {name: value for name, value in inputs.items() if not _is_empty(value)}
            )
            seconds.append(time.perf_counter() - start)
            results.append({name.removeprefix(NEXT): value for name, value in outputs.items()})
            difference = max(difference, _difference(results[-1], expected))
        if not difference <= tolerance:
            raise ExportError(f"answers differ by {difference:.2g}, and may by {tolerance:g}")
        measured = {"difference": difference, "tolerance": tolerance}
        return _timing(seconds) | measured | self._score(results)

    def _score(self, outputs: list[Arrays]) -> JsonObject:
        """The task's first score, on the sampled examples."""
        if not self.function.predicts:
            return {}
        # Examples outside the sample have weight 0: the outputs of any other example will do.
        nearest = np.searchsorted(self.rows, np.arange(len(self.split)))
        nearest = np.minimum(nearest, len(self.rows) - 1)
        predictions = {
            name: np.concatenate([output[name] for output in outputs])[nearest]
            for name in outputs[0]
        }
        weights = np.zeros((1, len(self.split)))
        weights[0, self.rows] = 1
        name, score = next(iter(self.task.score(predictions, self.split).items()))
        return {"score": name, "value": float(score.of(weights)[0])}


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _timing(seconds: list[float]) -> JsonObject:
    return {"milliseconds": 1e3 * float(np.median(seconds)), "examples": len(seconds)}


def _difference(outputs: Arrays, expected: Arrays) -> float:
    """The largest, as a share of the output's largest number or of 1; inf if not finite."""
    largest = 0.0
    for name, values in expected.items():
        if _is_empty(values):
            continue
        here, there = values.astype(np.float64), outputs[name].astype(np.float64)
        if here.shape != there.shape or not np.all(np.isfinite(there)):
            return float("inf")
        largest = max(largest, np.abs(here - there).max() / max(1.0, np.abs(here).max()))
    return float(largest)


def _reason(error: Exception) -> str:
    """One line of a converter's message, which may fill pages: that which names the operator."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    operator_lines = [line for line in lines if "error: '" in line or "op is neither" in line]
    line = (operator_lines or lines or [type(error).__name__])[0]
    return line.rpartition("error: ")[2][:200]


def _write_litert(
    model: keras.Model, inputs: Mapping[str, tf.TensorSpec], path: Path, precision: str
) -> None:
    # Built-in operators only: Flex operators need TensorFlow where the file is run.
    target: Config = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    options: Config = {}
    if precision != "float32":
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        target["supported_types"] = [tf.float16]
    model.export(
        path, "litert", verbose=False, input_signature=[inputs], target_spec=target, **options
    )


def _open_litert(path: Path) -> Runner:
    from ai_edge_litert.interpreter import Interpreter

    # The runner keeps its interpreter alive.
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    return lambda inputs: runner(**inputs)


def _write_onnx(
    model: keras.Model, inputs: Mapping[str, tf.TensorSpec], path: Path, precision: str
) -> None:
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras uses a deprecated name of NumPy
        model.export(str(path), "onnx", verbose=False, input_signature=[inputs])


def _open_onnx(path: Path) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


FORMATS = {
    "litert": Format("tflite", ("float32", "float16", "int8"), 1, _write_litert, _open_litert),
    "onnx": Format("onnx", ("float32",), None, _write_onnx, _open_onnx),
}
