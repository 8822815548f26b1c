"""A task of another kind, added as a module and its YAML, passes every stage as it stands.

tags      a label for each word of a list
forecast  quantiles of what comes next, by windows over long series that are divided by time
align     an alignment of frames (T, 2) with symbols, by CTC
babble    text that goes on, generated without a decoder or a memory
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import main_here
from fresh_process import check_fresh_answers, nearly, rows_of, unpadded
from serving_process import serving
from whole_runs import FEW_STAGES

import pipelines.data.sources
import pipelines.tasks
from pipelines.core.paths import ROOT

NEW = ROOT / "tests" / "support" / "new_tasks"

METRICS = {
    "tags": "word_errors",
    "forecast": "pinball",
    "align": "exact_match",
    "babble": "token_accuracy",
}

HIGHER_IS_BETTER = ("align", "babble")

INPUTS = {"tags": "words", "forecast": "series", "align": "frames", "babble": "text"}

PREDICTIONS = {"tags": "tags", "forecast": "quantiles", "align": "symbols", "babble": "text"}

QUICK = ["train.epochs=2", "model.width=6", "evaluate.resamples=100", "export.verify=0"]


@pytest.fixture(scope="module", autouse=True)
def new_modules() -> Iterator[None]:
    """As if the modules lay in the project's own folders."""
    with pytest.MonkeyPatch.context() as patch:
        for package, folder in (
            (pipelines.tasks, NEW / "pipelines/tasks"),
            (pipelines.data.sources, NEW / "pipelines/data/sources"),
        ):
            patch.setattr(package, "__path__", [*package.__path__, str(folder)])
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, new_modules: None) -> dict[str, Path]:
    """A finished run of each."""
    folder = tmp_path_factory.mktemp("new_tasks")
    for name in METRICS:
        arguments = [f"task={name}", f"hydra.run.dir={folder / name}", *QUICK]
        result = main_here("--config-dir", str(NEW / "conf"), *arguments, folder=folder)
        assert result.returncode == 0, result.stderr
    return {name: folder / name for name in METRICS}


@pytest.fixture(scope="module")
def measured(runs: dict[str, Path]) -> dict[str, list[dict[str, Any]]]:
    """Inputs and predictions of three test examples of each."""
    rows = {name: rows_of(run / "predictions.jsonl") for name, run in runs.items()}
    return {name: [row for row in rows[name] if row["split"] == "test"][:3] for name in rows}


@pytest.mark.parametrize("name", METRICS)
def test_it_is_trained_measured_and_reported(runs: dict[str, Path], name: str) -> None:
    metrics = json.loads((runs[name] / "metrics.json").read_text())
    entry = metrics["test"][METRICS[name]]
    assert entry["low"] <= entry["value"] <= entry["high"]
    assert entry["higher_is_better"] == (name in HIGHER_IS_BETTER)
    assert len(rows_of(runs[name] / "history.jsonl")) == 2
    assert entry["label"] in (runs[name] / "report.html").read_text(encoding="utf-8")


def test_a_fresh_process_gives_the_predictions_that_were_measured(runs: dict[str, Path]) -> None:
    check_fresh_answers(list(runs.values()))


def predicted(run: Path, file: Path) -> list[dict[str, Any]]:
    arguments = ["mode=predict", f"run={run}", f"input={file}"]
    result = main_here("--config-dir", str(NEW / "conf"), *arguments, folder=file.parent)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", METRICS)
def test_it_predicts_from_files(
    runs: dict[str, Path], measured: dict[str, list[Any]], tmp_path: Path, name: str, ending: str
) -> None:
    inputs = [row["given"] for row in measured[name]]
    file = tmp_path / f"inputs.{ending}"
    if ending == "parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(inputs), file)
    else:
        file.write_text("".join(f"{json.dumps(row)}\n" for row in inputs))
    said = [row[PREDICTIONS[name]] for row in predicted(runs[name], file)]
    assert said == [nearly(row["answer"][PREDICTIONS[name]]) for row in measured[name]]


def test_it_predicts_from_csv_where_a_cell_can_hold_the_input(
    runs: dict[str, Path], measured: dict[str, list[Any]], tmp_path: Path
) -> None:
    file = tmp_path / "inputs.csv"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, ["text"])
        writer.writeheader()
        writer.writerows(row["given"] for row in measured["babble"])
    said = [row["text"] for row in predicted(runs["babble"], file)]
    assert said == [row["answer"]["text"] for row in measured["babble"]]


def test_it_is_served(
    runs: dict[str, Path], measured: dict[str, list[Any]], tmp_path: Path
) -> None:
    where = f"run={','.join(map(str, runs.values()))}"
    with serving(tmp_path / "log", where, f"serve.name={','.join(runs)}") as server:
        for name in runs:
            inputs = [row["given"][INPUTS[name]] for row in measured[name]]
            rows = [{INPUTS[name]: value} for value in inputs]
            said = server.predict(name, instances=rows)["predictions"]
            wanted = PREDICTIONS[name]
            for row, one in zip(measured[name], said, strict=True):
                value = one[wanted] if isinstance(one, dict) else one
                assert unpadded(value) == nearly(row["answer"][wanted]), name


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the new files in their places."""
    folder = tmp_path_factory.mktemp("project")
    for part in ("conf", "models", "pipelines"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    shutil.copy(ROOT / "main.py", folder)
    shutil.copytree(NEW, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize(
    "name",
    [name if name == "tags" else pytest.param(name, marks=pytest.mark.slow) for name in METRICS],
)
def test_it_is_swept_towards_its_better_scores(project: Path, tmp_path: Path, name: str) -> None:
    command = [sys.executable, str(project / "main.py"), "-m", f"task={name}"]
    grid = ["train.learning_rate=0.0001,0.01", "sweep.name=s", *FEW_STAGES]
    result = subprocess.run(
        [*command, *grid, *QUICK], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    (board,) = tmp_path.rglob("leaderboard.json")
    found = json.loads(board.read_text())
    assert found["score"] == METRICS[name]
    scores = [one["scores"]["validation"]["value"] for one in found["configurations"]]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=name in HIGHER_IS_BETTER), "the best comes first"


@pytest.mark.parametrize(
    ("name", "most"), [("tags", 100), ("forecast", 130), ("align", 80), ("babble", 100)]
)
def test_it_takes_few_lines(name: str, most: int) -> None:
    lines = (NEW / f"pipelines/tasks/{name}.py").read_text().splitlines()
    assert len(lines) <= most
