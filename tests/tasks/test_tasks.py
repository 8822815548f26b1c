"""What holds for every task with every model; both are found in conf/."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK
from tiny_runs import MODELS, Run, go

from pipelines.core.paths import ROOT


@pytest.fixture(scope="module")
def trained(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A quick run of a model, trained when it is first asked for."""
    folder = tmp_path_factory.mktemp("sentiment")

    @functools.cache
    def run(model: str) -> Run:
        overrides = ["task=sentiment", f"model={model}", "data=text_files", f"data.path={reviews}"]
        directory = folder / model
        return Run(directory, *go(directory, *overrides, *QUICK, "evaluate.diagnostics=false"))

    return run


@pytest.mark.parametrize("model", MODELS)
def test_every_model_goes_from_data_to_a_saved_model(
    model: str, trained: Callable[[str], Run]
) -> None:
    directory, metrics, history = trained(model)
    assert metrics["model"] == model
    assert history[-1]["train.loss"] < history[0]["train.loss"]
    assert (directory / "saved_model" / "saved_model.pb").exists()
    assert (directory / "report.html").exists()


ASK = """
import runpy, sys
client = runpy.run_path(sys.argv[1])
for directory in sys.argv[2:]:
    sys.argv[1] = f"{directory}/saved_model"
    with open(f"{directory}/asked.jsonl") as sys.stdin:
        with open(f"{directory}/answered.jsonl", "w") as sys.stdout:
            client["main"]()
"""


def test_a_fresh_process_answers_as_every_model_did(trained: Callable[[str], Run]) -> None:
    """One for all SavedModels, for to start TensorFlow takes seconds."""
    runs = [trained(model).directory for model in MODELS]
    measured = [rows_of(run / "predictions.jsonl") for run in runs]
    for run, rows in zip(runs, measured, strict=True):
        (run / "asked.jsonl").write_text("\n".join(json.dumps(row["given"]) for row in rows))
    # Without PYTHONPATH nothing of this project can be imported.
    client = ROOT / "pipelines" / "export" / "client.py"
    command = [sys.executable, "-I", "-c", ASK, str(client), *map(str, runs)]
    subprocess.run(command, cwd=runs[0], check=True, timeout=300)
    for run, rows in zip(runs, measured, strict=True):
        answers = rows_of(run / "answered.jsonl")
        assert rows
        for row, answer in zip(rows, answers, strict=True):
            assert answer["label"] == row["answer"]["label"]
            assert answer["probabilities"] == pytest.approx(
                row["answer"]["probabilities"], abs=1e-4
            )


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_32_examples_by_heart(model: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    # The label is the parity of two numbers: no word gives it away, only all of them together.
    rows = [
        f"number {n} and {m},{'odd' if (n + m) % 2 else 'even'}" for n in range(8) for m in range(8)
    ]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    overrides = [
        f"model={model}", "data=text_files", f"data.path={path}", "prepare.validation=0.25",
        "prepare.test=0.25", "task.text.minimum_count=1", "task.embedding.word_dropout=0",
        "task.embedding.dropout=0", "task.dropout=0", "model.width=24", "task.embedding.width=16",
        "train.epochs=75", "train.batch_examples=8", "train.learning_rate=0.01",
        "train.ema_decay=null", "train.patience=null", "train.evaluate_every=100000",
        "export.saved_model=false", "evaluate.diagnostics=false", "train.tensorboard=false",
    ]  # fmt: skip
    metrics, history = go(tmp_path / "run", *overrides)
    assert metrics["data"]["splits"]["train"] == 32
    assert history[-1]["train.loss"] < 0.05


@pytest.mark.parametrize(
    "options",
    [
        [
            "model.layers=2",
            "model.residual=true",
            "model.dropout=0.2",
            "model.recurrent_dropout=0.2",
            "task.class_weights=balanced",
            "task.label_smoothing=0.1",
            "train.accumulation_steps=2",
        ],
        [
            "model=simple_rnn",
            "model.activation=relu",
            "task.pooling=last",
            "train.optimizer=rmsprop",
            "train.schedule=exponential",
            "train.ema_decay=null",
        ],
        [
            "task.text.tokens=character",
            "task.pooling=attention",
            "train.optimizer=adamw",
            "task.text.truncate=head",
            "task.text.punctuation=drop",
            "train.evaluate_every=3",
        ],
        ["train.deterministic=true", "train.monitor=loss", "train.patience=1"],
        ["train.precision=mixed_bfloat16", "train.max_steps=4"],
    ],
    ids=lambda options: options[0],
)
def test_options_work_from_end_to_end(options: list[str], reviews: Path, tmp_path: Path) -> None:
    overrides = ["data=text_files", f"data.path={reviews}", *QUICK, "evaluate.diagnostics=false"]
    metrics, history = go(tmp_path / "run", *overrides, *options)
    assert metrics["test"]["loss"]["value"] > 0
    assert history[-1]["gradient_norm"] > 0


def test_sentencepiece_works_from_end_to_end(reviews: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_text")
    overrides = ["data=text_files", f"data.path={reviews}", *QUICK, "evaluate.diagnostics=false"]
    pieces = ["task.text.tokens=sentencepiece", "task.text.vocabulary_size=60"]
    metrics, _ = go(tmp_path / "run", *overrides, *pieces)
    assert metrics["test"]["loss"]["value"] > 0


def test_a_linear_baseline_that_beats_the_network_is_named(reviews: Path, tmp_path: Path) -> None:
    overrides = ["data=text_files", f"data.path={reviews}", *QUICK, "export.saved_model=false"]
    metrics, _ = go(tmp_path / "run", *overrides, "train.learning_rate=0.000001")
    assert metrics["comparison"]["outcome"] == "worse"
    strongest = metrics["baselines"]["test"][metrics["comparison"]["baseline"]]["label"]
    assert f"the strongest baseline, {strongest} (" in metrics["verdict"]
    assert metrics["verdict"] in (tmp_path / "run" / "report.html").read_text()
