"""Whole runs by the command line: what they leave, how they are used again, and how they fail.

One finished run serves most tests. Processes of their own are started where the test is about
processes; elsewhere the command runs in this one, see conftest.
"""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import Command, FinishedRun
from whole_runs import FEW_STAGES, find_half_written, read_history, read_metrics

from pipelines.data.codecs.word_vectors import vectors_for
from pipelines.runs.directory import Run, load_model


def test_a_run_leaves_all_that_comes_after_it_needs(finished_run: FinishedRun) -> None:
    run = finished_run.directory
    for name in (
        ".hydra/config.yaml",
        "config.yaml",
        "codec/tokens.json",
        "codec/label.json",
        "checkpoints/last.npz",
        "checkpoints/best.npz",
        "history.jsonl",
        "model.keras",
        "saved_model/saved_model.pb",
        "metrics.json",
        "predictions.jsonl",
        "report.html",
        "run.log",
    ):
        assert (run / name).is_file(), name
    assert list((run / "plots").glob("*.svg"))
    assert list((run / "tensorboard").iterdir())
    assert not find_half_written(run)
    assert "Warning" not in finished_run.stderr


def keys_of(value: object) -> list[str]:
    """All keys of an object, whatever they are in."""
    if isinstance(value, list):
        return [key for part in value for key in keys_of(part)]
    if isinstance(value, dict):
        return [*value, *(key for part in value.values() for key in keys_of(part))]
    return []


def test_metrics_have_the_stable_keys(run: Path) -> None:
    metrics = read_metrics(run)
    accuracy = metrics["test"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert metrics["validation"]["loss"]["higher_is_better"] is False
    majority = metrics["baselines"]["test"]["majority_class"]
    assert majority["label"] == "majority class"
    assert list(majority["scores"]) == list(metrics["test"])
    for stage in ("prepare", "train", "evaluate", "export", "report", "total"):
        assert metrics["seconds"][stage] > 0
    assert 0 <= metrics["padding"]["train"] < 1
    assert metrics["parameters"]["total"] > 0
    assert metrics["memory"]["peak_resident_mb"] > 0
    assert metrics["data"]["fingerprint"]
    assert metrics["seed"] == 1
    assert {"horizon", "median_length", "total"} <= set(keys_of(metrics))
    assert [key for key in keys_of(metrics) if " " in key] == []
    assert metrics["epochs"]["trained"] == 2
    report = (run / "report.html").read_text()
    assert "padding among the positions of train" in report
    assert metrics["verdict"] in report


def test_predictions_give_every_test_example_once(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    test = [line for line in lines if line["split"] == "test"]
    assert [line["row"] for line in test] == list(range(len(test)))
    right = np.mean([line["answer"]["label"] == line["reference"]["label"] for line in test])
    assert right == pytest.approx(read_metrics(run)["test"]["accuracy"]["value"])


def test_evaluate_again_gives_the_same_scores_in_place_of_the_old_ones(
    copy: Path, command_here: Command
) -> None:
    before = read_metrics(copy)
    asked = ["evaluate.splits=[test]", "evaluate.diagnostics=false"]
    result = command_here("mode=evaluate", f"run={copy}", *asked)
    assert result.returncode == 0, result.stderr
    after = read_metrics(copy)
    assert after["test"] == before["test"]
    assert after["epochs"] == before["epochs"]
    assert "validation" not in after
    assert "baselines" not in after
    assert set(after["throughput"]) == set(before["throughput"])


def test_export_again_replaces_the_saved_model(copy: Path, command_here: Command) -> None:
    (copy / "saved_model" / "saved_model.pb").write_bytes(b"broken")
    result = command_here("mode=export", f"run={copy}")
    assert result.returncode == 0, result.stderr
    assert "A fresh process gives the same answers" in result.stderr
    result = command_here("mode=predict", f"run={copy}", "input=a superb film")
    assert result.returncode == 0, result.stderr
    assert not find_half_written(copy)


def test_no_more_checkpoints_are_kept_than_asked_for(
    quick_overrides: list[str], command_here: Command, tmp_path: Path
) -> None:
    asked = ["train.checkpoints=3", "train.checkpoint_seconds=0.000001", *FEW_STAGES]
    result = command_here(*quick_overrides, *asked, f"hydra.run.dir={tmp_path}/run")
    assert result.returncode == 0, result.stderr
    made = Run(tmp_path / "run")
    kept = sorted(path.name for path in made.last.parent.glob("last*"))
    assert kept == ["last.1.npz", "last.2.npz", "last.npz"]
    steps = []
    for age in range(3):
        with np.load(made.checkpoint(age)) as file:
            steps.append(json.loads(file["state"].tobytes())["step"])
    # The one before was of the epoch's last update, too: saved with it, and at the epoch's end.
    assert steps == sorted(steps, reverse=True)
    assert read_metrics(made.directory)["saving"]["share_of_training"] > 0


def test_a_run_from_before_a_setting_existed_is_used_with_its_default(
    copy: Path, command_here: Command
) -> None:
    text = (copy / "config.yaml").read_text()
    assert "  checkpoints: 2\n" in text
    (copy / "config.yaml").write_text(text.replace("  checkpoints: 2\n", ""))
    result = command_here("mode=predict", f"run={copy}", "input=a superb film")
    assert result.returncode == 0, result.stderr


def test_more_epochs_go_on_where_the_run_ended(copy: Path, command_here: Command) -> None:
    before = read_metrics(copy)["seconds"]
    result = command_here("mode=train", f"run={copy}", "train.epochs=3", *FEW_STAGES)
    assert result.returncode == 0, result.stderr
    assert read_metrics(copy)["epochs"]["trained"] == 3
    assert read_metrics(copy)["seconds"]["train"] > before["train"]
    assert "epochs: 3" in (copy / "config.yaml").read_text()
    assert len(read_history(copy)) == 3


def test_the_mean_of_the_best_weights_is_taken_only_if_it_scores_better(
    quick_overrides: list[str], command_here: Command, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    asked = ["train.epochs=4", "train.checkpoint_averaging=2", "train.monitor=loss", *FEW_STAGES]
    result = command_here(*quick_overrides, *asked, f"hydra.run.dir={directory}")
    assert result.returncode == 0, result.stderr
    losses = {row["step"]: row["validation.loss"] for row in read_history(directory)}
    best = sorted(losses, key=lambda step: losses[step])
    kept = sorted((directory / "checkpoints").glob("kept_*.npz"))
    assert kept == sorted(Run(directory).best_checkpoint(step) for step in best[:2])
    reached = read_metrics(directory)["validation"]["loss"]["value"]
    assert ("is kept" in result.stderr) == (reached == pytest.approx(losses[best[0]]))
    files = [directory / "checkpoints" / "best.npz"] if "is kept" in result.stderr else kept
    assert reached <= losses[best[0]] * 1.0001
    saved = [np.load(file)["model:0"].astype(np.float64) for file in files]
    weights = load_model(Run(directory)).variables[0].numpy()
    np.testing.assert_allclose(weights, np.mean(saved, 0), rtol=1e-6)


def test_a_directory_that_holds_a_run_is_not_written_over(
    copy: Path, quick_overrides: list[str], command_here: Command
) -> None:
    before = (copy / ".hydra" / "config.yaml").read_bytes()
    result = command_here(*quick_overrides, f"hydra.run.dir={copy}", "seed=2")
    assert result.returncode == 1
    assert "already holds a run" in result.stderr
    assert (copy / ".hydra" / "config.yaml").read_bytes() == before


def test_a_directory_with_other_things_is_refused_and_kept(
    quick_overrides: list[str], command_here: Command, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    result = command_here(*quick_overrides, f"hydra.run.dir={tmp_path}")
    assert result.returncode == 1
    assert "holds other things" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("override", ["model=lstm", "seed=2", "train.epochs=9", "task=translation"])
def test_what_was_trained_cannot_be_contradicted_afterwards(
    run: Path, command_here: Command, override: str
) -> None:
    result = command_here("mode=evaluate", f"run={run}", override)
    assert result.returncode == 1
    assert "can't be changed" in result.stderr
    assert len(result.stderr) < 300


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/run", "/dev/null/run", "a" * 300])
def test_a_place_where_nothing_can_be_written_is_reported_in_one_line(
    quick_overrides: list[str], run: Path, command_here: Command, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    commands = [[*quick_overrides, f"hydra.run.dir={place}"], ["mode=train", f"run={place}"]]
    if place != "file":
        commands.append(["mode=predict", f"run={run}", "input=x", f"output={place}"])
    for arguments in commands:
        result = command_here(*arguments)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith("error: ")
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_another_run_gives_its_vectors(run: Path) -> None:
    words = json.loads((run / "codec" / "tokens.json").read_text())["vocabulary"]
    found = vectors_for(("never-seen", words[1], words[0]), str(run))
    assert found is not None
    assert found.known.tolist() == [False, True, True]
    table = np.asarray(keras.models.load_model(run / "model.keras").get_layer("embedding").matrix)
    np.testing.assert_array_equal(found.matrix[1:], table[[3, 2]])


def test_a_run_starts_from_what_another_learnt(
    run: Path, quick_overrides: list[str], command_here: Command, tmp_path: Path
) -> None:
    data = tmp_path / "other.csv"
    rows = [f"seldom {word} {n},{word}" for n in range(30) for word in ("negative", "positive")]
    data.write_text("text,label\n" + "\n".join(rows) + "\n")
    steps = ["train.max_steps=1", "train.learning_rate=1e-9", *FEW_STAGES]
    options = [*quick_overrides, f"data.path={data}", f"task.start={run}", *steps]
    result = command_here(*options, f"hydra.run.dir={tmp_path / 'new'}")
    assert result.returncode == 0, result.stderr
    old, new = (load_model(Run(path)) for path in (run, tmp_path / "new"))
    for name in ("encoder", "logits"):
        weights = [model.get_layer(name).weights for model in (old, new)]
        for one, other in zip(*weights, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    words, theirs = (
        json.loads((path / "codec" / "tokens.json").read_text())["vocabulary"]
        for path in (tmp_path / "new", run)
    )
    assert {"seldom", *theirs} <= set(words)
    rows = [words.index("film") + 2, theirs.index("film") + 2]
    tables = [model.get_layer("embedding").matrix.numpy() for model in (new, old)]
    np.testing.assert_allclose(tables[0][rows[0]], tables[1][rows[1]], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["task.start=nowhere"], "no model in 'nowhere'"),
        (["task.start={run}", "task.embedding.vectors={run}"], "leave task.embedding.vectors out"),
        (["task.start={run}", "model.width=7"], "take the model and pooling"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_start_that_cannot_be_is_reported(
    run: Path, quick_overrides: list[str], command_here: Command, options: list[str], message: str
) -> None:
    result = command_here(*quick_overrides, *(option.format(run=run) for option in options))
    assert result.returncode == 1
    assert message in result.stderr
