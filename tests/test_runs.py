"""Whole runs by the command line: what they leave, how they go on, and how they fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT, Command

from pipelines.vectors import vectors_for


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "RECURRENT_CACHE": str(tmp_path_factory.mktemp("cache"))}


def main(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, quick: list[str], environment: dict[str, str]
) -> Path:
    """A finished run."""
    directory = tmp_path_factory.mktemp("runs") / "one"
    done = main([*quick, f"hydra.run.dir={directory}"], environment)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be spoilt."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_a_run_leaves_all_that_comes_after_it_needs(run: Path) -> None:
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
    assert not [path for path in run.rglob(".*") if path.name != ".hydra"], "something half-written"


def test_metrics_have_the_stable_keys(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    accuracy = metrics["test"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert metrics["validation"]["loss"]["higher_is_better"] is False
    assert "majority class" in metrics["baselines"]["test"]
    for stage in ("prepare", "train", "evaluate", "export", "report", "total"):
        assert metrics["seconds"][stage] > 0
    assert 0 <= metrics["padding"]["train"] < 1
    assert metrics["parameters"]["total"] > 0
    assert metrics["memory"]["peak_resident_mb"] > 0
    assert metrics["data"]["fingerprint"]
    assert metrics["seed"] == 1
    assert metrics["epochs"]["trained"] == 2
    report = (run / "report.html").read_text()
    assert "padding among the positions of train" in report
    assert metrics["verdict"] in report


def test_predictions_give_every_test_example_once(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    test = [line for line in lines if line["split"] == "test"]
    assert [line["row"] for line in test] == list(range(len(test)))
    metrics = json.loads((run / "metrics.json").read_text())
    right = np.mean([line["answer"]["label"] == line["reference"]["label"] for line in test])
    assert right == pytest.approx(metrics["test"]["accuracy"]["value"])


@pytest.mark.parametrize(
    "text", ["a superb film", "it's \"dull\", isn't it? ${x} \\", "日本語 👍", "  "]
)
def test_predict_answers_any_text_on_the_command_line(
    run: Path, command: Command, text: str
) -> None:
    done = command("mode=predict", f"run={run}", f"input={text}")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer["text"] == text
    assert answer["label"] in ("negative", "positive")
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_predict_reads_files_and_standard_input_alike(
    run: Path, command: Command, tmp_path: Path
) -> None:
    texts = ["a superb film", "an awful film, really", "people in town"]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "texts.csv").write_text(
        "id,text\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(texts))
    )
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    outputs = [
        command("mode=predict", f"run={run}", f"input={name}").stdout
        for name in ("texts.txt", "texts.csv", "texts.jsonl")
    ]
    outputs.append(command("mode=predict", f"run={run}", stdin="\n".join(texts)).stdout)
    command("mode=predict", f"run={run}", "input=texts.txt", "output=answers.jsonl")
    outputs.append((tmp_path / "answers.jsonl").read_text())
    assert [json.loads(line)["text"] for line in outputs[0].splitlines()] == texts
    assert len(set(outputs)) == 1


def test_evaluate_again_gives_the_same_scores(copy: Path, environment: dict[str, str]) -> None:
    before = json.loads((copy / "metrics.json").read_text())
    done = main(["mode=evaluate", f"run={copy}", "evaluate.diagnostics=false"], environment)
    assert done.returncode == 0, done.stderr
    after = json.loads((copy / "metrics.json").read_text())
    assert after["test"] == before["test"]
    assert after["epochs"] == before["epochs"]


def test_export_again_replaces_the_saved_model(copy: Path, environment: dict[str, str]) -> None:
    shutil.rmtree(copy / "saved_model")
    done = main(["mode=export", f"run={copy}"], environment)
    assert done.returncode == 0, done.stderr
    assert (copy / "saved_model" / "saved_model.pb").is_file()


def test_the_same_seed_gives_the_same_weights_and_a_second_start_prepares_nothing(
    run: Path, quick: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    done = main(
        [*quick, f"hydra.run.dir={tmp_path / 'again'}", "evaluate.diagnostics=false"], environment
    )
    assert done.returncode == 0, done.stderr
    assert same_weights(run, tmp_path / "again")
    assert "reused" in done.stderr


def test_a_killed_run_goes_on_to_the_same_weights_to_the_last_bit(
    run: Path, quick: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "killed"
    arguments = [*quick, f"hydra.run.dir={directory}", "train.checkpoint_seconds=0.000001"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: (directory / "checkpoints" / "last.npz").exists(), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (directory / "model.keras").exists(), "it was killed too late to show anything"
    done = main(["mode=train", f"run={directory}"], environment)
    assert done.returncode == 0, done.stderr
    assert "Going on" in done.stderr
    assert same_weights(run, directory)
    assert [strip(row) for row in history(run)] == [strip(row) for row in history(directory)]


def test_sigterm_saves_and_says_how_to_go_on(
    quick: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "stopped"
    arguments = [*quick, f"hydra.run.dir={directory}", "train.epochs=100000"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: (directory / "history.jsonl").exists(), process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"mode=train run={directory}" in error
    assert "Traceback" not in error
    assert (directory / "checkpoints" / "last.npz").exists()


def test_a_directory_that_holds_a_run_is_not_written_over(
    copy: Path, quick: list[str], environment: dict[str, str]
) -> None:
    before = (copy / ".hydra" / "config.yaml").read_bytes()
    done = main([*quick, f"hydra.run.dir={copy}", "seed=2"], environment)
    assert done.returncode == 1
    assert "already holds a run" in done.stderr
    assert (copy / ".hydra" / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "mode", "told"),
    [
        ("config.yaml", "evaluate", "config.yaml is damaged"),
        ("model.keras", "evaluate", "model.keras is damaged"),
        ("saved_model/saved_model.pb", "predict", "saved_model is damaged"),
        ("checkpoints/best.npz", "train", "best.npz is damaged"),
        ("metrics.json", "evaluate", "metrics.json is damaged"),
        ("codec/tokens.json", "evaluate", "tokens.json is damaged"),
    ],
)
def test_a_damaged_run_is_told_in_one_line(
    copy: Path, environment: dict[str, str], damage: str, mode: str, told: str
) -> None:
    path = copy / damage
    path.write_bytes(path.read_bytes()[:20] + b"\x00{")
    extra = ["input=x"] if mode == "predict" else []
    done = main([f"mode={mode}", f"run={copy}", *extra], environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert told in done.stderr.splitlines()[-1]


def wait_for(condition, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.05)
    raise AssertionError("it never got so far")


def same_weights(one: Path, other: Path) -> bool:
    with np.load(one / "checkpoints/best.npz") as a, np.load(other / "checkpoints/best.npz") as b:
        names = [name for name in a.files if name != "state"]
        return sorted(a.files) == sorted(b.files) and all(np.array_equal(a[n], b[n]) for n in names)


def history(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]


def strip(row: dict) -> dict:
    return {key: value for key, value in row.items() if key != "seconds"}


def test_another_run_gives_its_vectors(run: Path) -> None:
    words = json.loads((run / "codec" / "tokens.json").read_text())["vocabulary"]
    found = vectors_for(("never-seen", words[1], words[0]), str(run))
    assert found is not None
    assert found.known.tolist() == [False, True, True]
    table = np.asarray(keras.models.load_model(run / "model.keras").get_layer("embedding").matrix)
    np.testing.assert_array_equal(found.matrix[1:], table[[3, 2]])


def test_a_directory_with_other_things_is_refused_and_kept(
    quick: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = main([*quick, f"hydra.run.dir={tmp_path}"], environment)
    assert done.returncode == 1
    assert "holds other things" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_default_directory_is_made_without_a_warning_and_goes_on_to_more_epochs(
    quick: list[str], command: Command, tmp_path: Path
) -> None:
    short = [*quick, "train.epochs=1", "evaluate.diagnostics=false", "export.saved_model=false"]
    done = command(*short)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    (directory,) = (tmp_path / "outputs" / "sentiment" / "gru").iterdir()
    done = command("mode=train", f"run={directory}", "train.epochs=2")
    assert done.returncode == 0, done.stderr
    assert json.loads((directory / "metrics.json").read_text())["epochs"]["trained"] == 2
    assert "epochs: 2" in (directory / "config.yaml").read_text()


@pytest.mark.parametrize("override", ["model=lstm", "seed=2", "train.epochs=9"])
def test_what_was_trained_cannot_be_contradicted_afterwards(
    run: Path, command: Command, override: str
) -> None:
    done = command("mode=evaluate", f"run={run}", override)
    assert done.returncode == 1
    assert "can't be changed" in done.stderr


def test_predict_skips_lines_that_are_no_text(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "mode=predict", f"run={run}"],
        input=b"a superb film\n\xff\xfe\x00\n\ncaf\xc3\xa9\n",
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == [
        "a superb film",
        "café",
    ]
    assert b"standard input:2" in done.stderr


def test_predict_reads_a_file_of_another_form(run: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("id;review\n1;a superb film\n")
    options = ["data.delimiter=semicolon", "data.text_column=review"]
    done = command("mode=predict", f"run={run}", "input=other.csv", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == "a superb film"
