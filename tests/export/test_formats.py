"""Files of other formats give the original's numbers, or the reason why they can't be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from conftest import Command, FinishedRun, main_here
from tiny_runs import run_here
from tiny_translation import QUICK as TRANSLATION

from pipelines.config import schema
from pipelines.core.errors import UserError
from pipelines.export import formats
from pipelines.export.formats import FORMATS, _difference, _reason
from pipelines.report.tables import exports_table
from pipelines.runs.directory import Run

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra litert")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("tf2onnx", reason="needs the extra onnx")

BOTH = ["export.formats=[litert,onnx]", "export.sample=6"]


def rows_of(directory: Path) -> list[dict[str, Any]]:
    return json.loads((directory / "metrics.json").read_text()).get("exports", [])


@pytest.fixture(scope="module")
def run(finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run, a forward GRU, exported once more with all formats."""
    folder = tmp_path_factory.mktemp("formats")
    copy = Path(shutil.copytree(finished_run.directory, folder / "run"))
    # Its SavedModel, of the same weights, stays.
    only_formats = [*BOTH, "export.saved_model=false"]
    result = main_here("mode=export", f"run={copy}", *only_formats, folder=folder)
    assert result.returncode == 0, result.stderr
    return copy


@pytest.fixture(scope="module")
def alone(quick_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without n-grams, whose streaming has files of other formats too."""
    folder = tmp_path_factory.mktemp("alone")
    options = ["task.ngrams.order=0", "evaluate.diagnostics=false", f"hydra.run.dir={folder}/run"]
    result = main_here(*quick_overrides, *options, *BOTH, folder=folder)
    assert result.returncode == 0, result.stderr
    return folder / "run"


def test_ngrams_are_in_the_files_and_streaming_them_is_refused(run: Path) -> None:
    rows = rows_of(run)
    for row in rows:
        is_original = row["format"] == "tensorflow"
        if row["function"] == "classify" and not is_original:
            assert (run / "exports" / row["file"]).is_file()
            assert row["difference"] <= row["tolerance"]
        if row["function"] == "stream" and not is_original:
            assert "file" not in row
            assert row["reason"]


def test_every_core_has_a_file_of_every_format_and_precision(alone: Path) -> None:
    run, rows = alone, rows_of(alone)
    files = {row["file"] for row in rows if "file" in row}
    expected = {
        f"{kind}/{name}{'' if precision == 'float32' else f'.{precision}'}.{form.suffix}"
        for kind, form in FORMATS.items()
        for name in ("classify", "stream")
        for precision in form.precisions
    }
    assert files == expected
    folder = run / "exports"
    assert {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} == expected
    for row in rows:
        assert row["milliseconds"] > 0
        assert row["examples"] == 6
        if "file" in row:
            assert row["difference"] <= row["tolerance"]
            assert row["bytes"] == (folder / row["file"]).stat().st_size
        assert ("score" in row) == (row["function"] == "classify")
    assert {row["score"] for row in rows if "score" in row} == {"accuracy"}


def test_whole_texts_are_answered_as_by_the_saved_model(run: Path) -> None:
    signatures = tf.saved_model.load(str(run / "saved_model")).signatures
    texts = ["a superb film", "an awful story of people in town and its music"]
    session = onnxruntime.InferenceSession(run / "exports/onnx/classify.onnx")
    ids = signatures["tokenize"](text=tf.constant(texts))
    (together,) = session.run(None, {name: value.numpy() for name, value in ids.items()})
    expected = signatures["serving_default"](text=tf.constant(texts))["probabilities"]
    np.testing.assert_allclose(together, expected, atol=1e-5)
    runner = litert.Interpreter(str(run / "exports/litert/classify.tflite")).get_signature_runner()
    for text, wanted in zip(texts, expected, strict=True):
        ids = signatures["tokenize"](text=tf.constant([text]))
        said = runner(**{name: value.numpy() for name, value in ids.items()})
        np.testing.assert_allclose(said["probabilities"][0], wanted, atol=1e-5)


def test_a_file_streams_from_zeros(alone: Path) -> None:
    run = alone
    signatures = tf.saved_model.load(str(run / "saved_model")).signatures
    text = tf.constant(["the film was superb"])
    runner = litert.Interpreter(str(run / "exports/litert/stream.tflite")).get_signature_runner()
    state = {
        name: np.zeros(about["shape"], about["dtype"])
        for name, about in runner.get_input_details().items()
        if name != "token"
    }
    for token in signatures["tokenize"](text=text)["tokens"].numpy()[0]:
        said = runner(token=np.array([token], np.int32), **state)
        state = {name: said[f"next_{name}"] for name in state}
    expected = signatures["serving_default"](text=text)["probabilities"]
    np.testing.assert_allclose(said["probabilities"], expected, atol=1e-5)


def test_files_of_earlier_weights_go(run: Path, command_here: Command, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    result = command_here("mode=export", f"run={copy}", "export.verify=0")
    assert result.returncode == 0, result.stderr
    assert not (copy / "exports").exists()
    assert rows_of(copy) == []


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["model=bi_lstm"], id="attention"),
        pytest.param(
            ["model=gru", "task.decoder.input_feeding=true"],
            id="input feeding",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_encoder_decoder_encodes_and_steps(
    options: list[str], pairs: list[str], tmp_path: Path
) -> None:
    more = [*BOTH, "export.saved_model=false", "decode=greedy"]
    metrics = run_here(tmp_path / "run", *TRANSLATION, *options, *pairs, *more).metrics
    reasons = [row["reason"] for row in metrics["exports"] if "reason" in row]
    assert not reasons
    files = {row["file"] for row in metrics["exports"] if "file" in row}
    assert {"litert/step.int8.tflite", "onnx/encode.onnx", "onnx/step.onnx"} <= files


def test_a_file_that_is_unavailable_has_its_reason_and_loses_nothing_else(
    finished_run: FinishedRun,
    command_here: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("first line\nwhile.cc: error: 'tf.Loop' op can't be lowered\nmore")

    def lies(path: Path) -> Any:
        ask = FORMATS["onnx"].open(path)
        return lambda given: {name: value + 1 for name, value in ask(given).items()}

    broken = {
        "litert": FORMATS["litert"]._replace(write=fails, precisions=("float32",)),
        "onnx": FORMATS["onnx"]._replace(open=lies),
    }
    copy = Path(shutil.copytree(finished_run.directory, tmp_path / "copy"))
    monkeypatch.setattr(formats, "FORMATS", broken)
    result = command_here("mode=export", f"run={copy}", *BOTH, "export.verify=0")
    assert result.returncode == 0, result.stderr
    assert "litert of classify, float32: unavailable: 'tf.Loop' op" in result.stderr
    assert (copy / "saved_model" / "saved_model.pb").exists()
    assert not [path for path in (copy / "exports").rglob("*") if path.is_file()]
    reasons = [row["reason"] for row in rows_of(copy) if "reason" in row]
    assert any("answers differ by" in reason for reason in reasons)
    table = exports_table(Run(copy).load_metrics())
    assert table is not None
    assert len({len(row) for row in table.rows} | {len(table.header)}) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["export.formats=[onnxx]"], "export.formats"),
        (["export.formats=[onnx]", "train.precision=mixed_bfloat16"], "train.precision=float32"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_done(
    options: list[str], message: str, quick_overrides: list[str], command_here: Command
) -> None:
    result = command_here(*quick_overrides, *options)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked:
        formats = ("litert",)

    class Config:
        export = Asked

    monkeypatch.setitem(schema.NEEDED, "litert", ("no_such_module",))
    with pytest.raises(UserError, match=r"pip install '\.\[litert\]'"):
        schema._check_export(Config)  # type: ignore[arg-type]


def test_differences_by_hand() -> None:
    expected = {"a": np.array([[2.0, -4.0]]), "none": np.zeros((1, 0))}
    assert _difference({"a": np.array([[2.0, -3.0]])}, expected) == 0.25
    assert _difference({"a": np.array([[2.0]])}, expected) == float("inf")
    assert _difference({"a": np.array([[np.nan, 0]])}, expected) == float("inf")
    assert _difference({"a": np.array([[0.5]])}, {"a": np.array([[0.25]])}) == 0.25


def test_a_reason_is_one_line() -> None:
    assert _reason(RuntimeError("a\nb")) == "a"
    assert _reason(RuntimeError("")) == "RuntimeError"
