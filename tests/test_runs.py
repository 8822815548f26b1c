"""Whole runs by the command line: what they leave, how they go on, and how they fail.

One finished run serves most tests. Processes of their own are started where the test is about
processes; elsewhere the command runs in this one, see conftest.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT, Command, Finished

from pipelines.run import Run, load_model
from pipelines.vectors import vectors_for

FEW_STAGES = ["export.saved_model=false", "evaluate.diagnostics=false"]


@pytest.fixture(scope="module")
def run(finished: Finished) -> Path:
    return finished.directory


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be spoilt."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def started(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    """main.py in a process of its own, to be stopped; what it tells is appended to `log`."""
    with log.open("ab") as error:
        return subprocess.Popen([sys.executable, str(ROOT / "main.py"), *arguments], stderr=error)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    for _ in range(12000):
        if condition():
            return
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.01)
    raise AssertionError("it never got so far")


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def read(directory: Path) -> dict:
    return json.loads((directory / "metrics.json").read_text())


def same_weights(one: Path, other: Path) -> bool:
    with np.load(one / "checkpoints/best.npz") as a, np.load(other / "checkpoints/best.npz") as b:
        names = [name for name in a.files if name != "state"]
        return sorted(a.files) == sorted(b.files) and all(np.array_equal(a[n], b[n]) for n in names)


def history(directory: Path) -> list[dict]:
    """Without what no two runs share: the time they took."""
    rows = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def half_written(directory: Path) -> list[Path]:
    return [path for path in directory.rglob(".*") if path.name != ".hydra"]


def test_a_run_leaves_all_that_comes_after_it_needs(finished: Finished) -> None:
    run = finished.directory
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
    assert not half_written(run)
    assert "Warning" not in finished.told


def test_metrics_have_the_stable_keys(run: Path) -> None:
    metrics = read(run)
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
    right = np.mean([line["answer"]["label"] == line["reference"]["label"] for line in test])
    assert right == pytest.approx(read(run)["test"]["accuracy"]["value"])


@pytest.mark.parametrize(
    "text", ["a superb film", "it's \"dull\", isn't it? ${x} \\", "日本語 👍", "  "]
)
def test_predict_answers_any_text_on_the_command_line(
    run: Path, command_here: Command, text: str
) -> None:
    done = command_here("mode=predict", f"run={run}", f"input={text}")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer["text"] == text
    assert answer["label"] in ("negative", "positive")
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_predict_reads_files_and_standard_input_alike(
    run: Path, command_here: Command, tmp_path: Path
) -> None:
    texts = ["a superb film", "an awful film, really", "people in town"]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "texts.csv").write_text(
        "id,text\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(texts))
    )
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    outputs = [
        command_here("mode=predict", f"run={run}", f"input={name}").stdout
        for name in ("texts.txt", "texts.csv", "texts.jsonl")
    ]
    outputs.append(command_here("mode=predict", f"run={run}", stdin="\n".join(texts)).stdout)
    command_here("mode=predict", f"run={run}", "input=texts.txt", "output=answers.jsonl")
    outputs.append((tmp_path / "answers.jsonl").read_text())
    assert [json.loads(line)["text"] for line in outputs[0].splitlines()] == texts
    assert len(set(outputs)) == 1


def test_predict_says_of_each_line_why_it_has_no_answer(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "mode=predict", f"run={run}"],
        input=b"a superb film\n\xff\xfe\x00\n\ncaf\xc3\xa9\n",
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("text") for line in lines] == ["a superb film", None, None, "café"]
    assert lines[1] == {"error": "standard input:2: is not valid UTF-8"}
    assert lines[2] == {"error": "standard input:3: is empty"}
    assert b"2 of 4 rows have no answer" in done.stderr


def test_predict_answers_each_file_of_a_folder(
    run: Path, command_here: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.jsonl").write_text('{"text": "a superb film"}\n{"texts": 1}\n')
    (folder / "a.csv").write_text("text,id\nan awful film,7\n")
    (folder / "notes.md").write_text("of no interest")
    done = command_here("mode=predict", f"run={run}", "input=folder")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("file") for line in lines] == ["a.csv", "b.jsonl", None]
    assert lines[2] == {"error": "b.jsonl:2: column 'text' has no value"}
    (folder / "a.csv").unlink()
    (folder / "b.jsonl").unlink()
    done = command_here("mode=predict", f"run={run}", "input=folder")
    assert done.returncode == 1
    assert done.stderr.startswith("error: input=folder: the folder must hold .csv")


def test_predict_killed_at_any_moment_goes_on_to_the_same_answers(
    run: Path, command_here: Command, tmp_path: Path
) -> None:
    rng = random.Random(5)
    texts = [" ".join(rng.choices(["superb", "awful", "film"], k=k % 9 + 1)) for k in range(60_000)]
    (tmp_path / "texts.txt").write_text("\n".join([*texts[:30_000], "", *texts[30_000:]]))
    whole = tmp_path / "whole.jsonl"
    asked = ["mode=predict", f"run={run}", f"input={tmp_path}/texts.txt"]
    assert not command_here(*asked, f"output={whole}").returncode
    answers = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [answer.get("text", "") for answer in answers] == [
        *texts[:30_000],
        "",
        *texts[30_000:],
    ]

    output, log = tmp_path / "answers.jsonl", tmp_path / "log"
    note = tmp_path / "answers.jsonl.partial.json"
    process = started(*asked, f"output={output}", log=log)
    wait_for(note.exists, process)
    kill(process)
    assert not output.exists(), "it was killed too late to show anything"
    done = command_here(*asked, f"output={output}")
    assert "going on after the" in done.stderr
    assert output.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {
        "texts.txt", "whole.jsonl", "answers.jsonl", "log",
    }  # fmt: skip


def test_predict_reads_a_file_of_another_form(
    run: Path, command_here: Command, tmp_path: Path
) -> None:
    (tmp_path / "other.csv").write_text("id;review\n1;a superb film\n")
    options = ["data.delimiter=semicolon", "data.text_column=review"]
    done = command_here("mode=predict", f"run={run}", "input=other.csv", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == "a superb film"


def test_evaluate_again_gives_the_same_scores_in_place_of_the_old_ones(
    copy: Path, command_here: Command
) -> None:
    before = read(copy)
    asked = ["evaluate.splits=[test]", "evaluate.diagnostics=false"]
    done = command_here("mode=evaluate", f"run={copy}", *asked)
    assert done.returncode == 0, done.stderr
    after = read(copy)
    assert after["test"] == before["test"]
    assert after["epochs"] == before["epochs"]
    assert "validation" not in after
    assert after["baselines"] == {}
    assert set(after["throughput"]) == set(before["throughput"])


def test_export_again_replaces_the_saved_model(copy: Path, command_here: Command) -> None:
    (copy / "saved_model" / "saved_model.pb").write_bytes(b"broken")
    done = command_here("mode=export", f"run={copy}")
    assert done.returncode == 0, done.stderr
    assert "A fresh process gives the same answers" in done.stderr
    done = command_here("mode=predict", f"run={copy}", "input=a superb film")
    assert done.returncode == 0, done.stderr
    assert not half_written(copy)


def test_a_run_killed_in_any_stage_goes_on_to_the_same_weights_to_the_last_bit(
    run: Path, quick: list[str], command_here: Command, tmp_path: Path
) -> None:
    """Each start is a process of its own: what one seed gives, it gives in every process."""
    directory, cache, log = tmp_path / "run", tmp_path / "cache", tmp_path / "log"
    arguments = [*quick, f"prepare.cache_dir={cache}", "train.checkpoint_seconds=0.000001"]
    process = started(*arguments, f"hydra.run.dir={tmp_path}/first", log=log)
    wait_for(lambda: list(cache.glob("*.tmp-*")), process)
    kill(process)
    assert list(cache.glob("*.tmp-*")), "it was killed too late to show anything"

    process = started(*arguments, f"hydra.run.dir={directory}", log=log)
    wait_for((directory / "checkpoints" / "last.npz").exists, process)
    kill(process)
    assert not (directory / "model.keras").exists(), "it was killed too late to show anything"
    assert not list(cache.glob("*.tmp-*"))

    process = started("mode=train", f"run={directory}", "export.saved_model=false", log=log)
    wait_for(lambda: "predict validation" in log.read_text(), process)
    kill(process)
    assert not (directory / "report.html").exists(), "it was killed too late to show anything"
    assert "Going on" in log.read_text()
    assert "reused" in log.read_text()

    for mode in ("evaluate", "train"):
        done = command_here(f"mode={mode}", f"run={directory}", *FEW_STAGES)
        assert done.returncode == 0, done.stderr
        assert same_weights(run, directory)
        assert history(run) == history(directory)
        assert read(directory)["test"] == read(run)["test"]
        assert (directory / "report.html").exists()
        assert not half_written(directory)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_says_how_to_go_on(
    quick: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    directory, log = tmp_path / "stopped", tmp_path / "log"
    process = started(*quick, f"hydra.run.dir={directory}", "train.epochs=100000", log=log)
    wait_for((directory / "history.jsonl").exists, process)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert f"mode=train run={directory}" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert (directory / "checkpoints" / "last.npz").exists()


def flipped(content: bytes) -> bytes:
    """With one bit changed in the middle, where the weights are."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda _: b"", flipped])
def test_a_damaged_checkpoint_is_told_and_the_one_before_leads_to_the_same_weights(
    run: Path, copy: Path, command_here: Command, damage: Callable[[bytes], bytes]
) -> None:
    last, before = (Run(copy).checkpoint(age) for age in (0, 1))
    assert before.exists()
    last.write_bytes(damage(last.read_bytes()))
    done = command_here("mode=train", f"run={copy}", *FEW_STAGES)
    assert done.returncode == 0, done.stderr
    assert f"{last} is damaged" in done.stderr
    assert "Going on from the checkpoint before" in done.stderr
    assert "Going on at epoch 2" in done.stderr
    assert same_weights(run, copy)
    assert history(run) == history(copy)
    assert curve(copy) == [row["step"] for row in history(copy)]


def curve(directory: Path) -> list[int]:
    """The updates at which TensorBoard shows a loss."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return sorted(
        event.step
        for path in (directory / "tensorboard").glob("events.*")
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == "train/loss"
    )


def test_a_file_in_the_place_of_tensorboards_directory_is_told_and_kept(
    copy: Path, command_here: Command
) -> None:
    shutil.rmtree(copy / "tensorboard")
    (copy / "tensorboard").write_text("mine")
    done = command_here("mode=train", f"run={copy}", "train.epochs=3", *FEW_STAGES)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("must be a directory: move the file away")
    assert (copy / "tensorboard").read_text() == "mine"


def test_no_more_checkpoints_are_kept_than_asked_for(
    quick: list[str], command_here: Command, tmp_path: Path
) -> None:
    asked = ["train.checkpoints=3", "train.checkpoint_seconds=0.000001", *FEW_STAGES]
    done = command_here(*quick, *asked, f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    made = Run(tmp_path / "run")
    kept = sorted(path.name for path in made.last.parent.glob("last*"))
    assert kept == ["last.1.npz", "last.2.npz", "last.npz"]
    steps = []
    for age in range(3):
        with np.load(made.checkpoint(age)) as file:
            steps.append(json.loads(file["state"].tobytes())["step"])
    # The one before was of the epoch's last update, too: saved with it, and at the epoch's end.
    assert steps == sorted(steps, reverse=True)
    assert read(made.directory)["saving"]["share_of_training"] > 0


def test_a_run_from_before_a_setting_existed_is_used_with_its_default(
    copy: Path, command_here: Command
) -> None:
    text = (copy / "config.yaml").read_text()
    assert "  checkpoints: 2\n" in text
    (copy / "config.yaml").write_text(text.replace("  checkpoints: 2\n", ""))
    done = command_here("mode=predict", f"run={copy}", "input=a superb film")
    assert done.returncode == 0, done.stderr


def test_more_epochs_go_on_where_the_run_ended(copy: Path, command_here: Command) -> None:
    before = read(copy)["seconds"]
    done = command_here("mode=train", f"run={copy}", "train.epochs=3", *FEW_STAGES)
    assert done.returncode == 0, done.stderr
    assert read(copy)["epochs"]["trained"] == 3
    assert read(copy)["seconds"]["train"] > before["train"]
    assert "epochs: 3" in (copy / "config.yaml").read_text()
    assert len(history(copy)) == 3


def test_the_mean_of_the_best_weights_is_taken_only_if_it_scores_better(
    quick: list[str], command_here: Command, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    asked = ["train.epochs=4", "train.average_best=2", "train.monitor=loss", *FEW_STAGES]
    done = command_here(*quick, *asked, f"hydra.run.dir={directory}")
    assert done.returncode == 0, done.stderr
    losses = {row["step"]: row["validation.loss"] for row in history(directory)}
    best = sorted(losses, key=lambda step: losses[step])
    kept = sorted((directory / "checkpoints").glob("kept_*.npz"))
    assert kept == sorted(Run(directory).kept(step) for step in best[:2])
    reached = read(directory)["validation"]["loss"]["value"]
    assert ("is kept" in done.stderr) == (reached == pytest.approx(losses[best[0]]))
    files = [directory / "checkpoints" / "best.npz"] if "is kept" in done.stderr else kept
    assert reached <= losses[best[0]] * 1.0001
    saved = [np.load(file)["model:0"].astype(np.float64) for file in files]
    weights = load_model(Run(directory)).variables[0].numpy()
    np.testing.assert_allclose(weights, np.mean(saved, 0), rtol=1e-6)


def test_a_directory_that_holds_a_run_is_not_written_over(
    copy: Path, quick: list[str], command_here: Command
) -> None:
    before = (copy / ".hydra" / "config.yaml").read_bytes()
    done = command_here(*quick, f"hydra.run.dir={copy}", "seed=2")
    assert done.returncode == 1
    assert "already holds a run" in done.stderr
    assert (copy / ".hydra" / "config.yaml").read_bytes() == before


def test_a_directory_with_other_things_is_refused_and_kept(
    quick: list[str], command_here: Command, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = command_here(*quick, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 1
    assert "holds other things" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("override", ["model=lstm", "seed=2", "train.epochs=9", "task=translation"])
def test_what_was_trained_cannot_be_contradicted_afterwards(
    run: Path, command_here: Command, override: str
) -> None:
    done = command_here("mode=evaluate", f"run={run}", override)
    assert done.returncode == 1
    assert "can't be changed" in done.stderr
    assert len(done.stderr) < 300


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garbled(content: bytes) -> bytes:
    return content[:20] + b"\x00{\xff"


def missing(content: bytes) -> None:
    return None


def of_another_task(content: bytes) -> bytes:
    return content.replace(b"name: sentiment", b"name: speech")


def of_another_run(content: bytes) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{"model:0": np.zeros(1), "state": np.frombuffer(b"{}", np.uint8)})
    return file.getvalue()


@pytest.mark.parametrize(
    ("path", "damage", "mode", "told"),
    [
        ("config.yaml", cut, "evaluate", "config.yaml is damaged"),
        ("config.yaml", garbled, "train", "config.yaml is damaged"),
        ("config.yaml", missing, "predict", "holds no config.yaml"),
        ("config.yaml", of_another_task, "evaluate", "no such task: 'speech'"),
        ("model.keras", cut, "evaluate", "model.keras is damaged"),
        ("model.keras", garbled, "export", "model.keras is damaged"),
        ("model.keras", missing, "evaluate", "go on with mode=train"),
        ("saved_model/saved_model.pb", cut, "predict", "saved_model is damaged"),
        ("saved_model/variables/variables.index", garbled, "predict", "saved_model is damaged"),
        ("saved_model/assets.extra/imports.txt", missing, "predict", "saved_model is damaged"),
        ("checkpoints/best.npz", cut, "train", "best.npz is damaged"),
        (
            "checkpoints/best.npz",
            of_another_run,
            "train",
            "best.npz is damaged or of another model",
        ),
        ("checkpoints/best.npz", missing, "train", "best.npz is missing"),
        ("metrics.json", cut, "evaluate", "metrics.json is damaged"),
        ("metrics.json", garbled, "train", "metrics.json is damaged"),
        ("history.jsonl", garbled, "evaluate", "history.jsonl is damaged"),
        ("codec/tokens.json", cut, "evaluate", "tokens.json is damaged"),
        ("codec/label.json", missing, "train", "label.json is damaged or missing"),
    ],
)
def test_a_damaged_run_is_told_in_one_line(
    copy: Path,
    command_here: Command,
    path: str,
    damage: Callable[[bytes], bytes | None],
    mode: str,
    told: str,
) -> None:
    content = damage((copy / path).read_bytes())
    (copy / path).unlink()
    if content is not None:
        (copy / path).write_bytes(content)
    more = {"predict": ["input=x"], "evaluate": ["evaluate.diagnostics=false"]}.get(mode, [])
    done = command_here(f"mode={mode}", f"run={copy}", *more)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert told in done.stderr.splitlines()[-1]
    assert not half_written(copy)


def test_a_codec_that_is_gone_is_taken_from_the_data_again(
    copy: Path, run: Path, command_here: Command
) -> None:
    shutil.rmtree(copy / "codec")
    done = command_here("mode=evaluate", f"run={copy}", "evaluate.diagnostics=false")
    assert done.returncode == 0, done.stderr
    assert read(copy)["test"] == read(run)["test"]
    for name in ("tokens.json", "label.json"):
        assert (copy / "codec" / name).read_bytes() == (run / "codec" / name).read_bytes()


def test_an_export_that_was_killed_between_two_renames_is_mended(
    copy: Path, command_here: Command
) -> None:
    (copy / "saved_model").rename(copy / ".old.saved_model")
    done = command_here("mode=predict", f"run={copy}", "input=x")
    assert done.returncode == 1
    assert "make one with mode=export" in done.stderr.splitlines()[-1]
    done = command_here("mode=evaluate", f"run={copy}", "evaluate.diagnostics=false")
    assert done.returncode == 0, done.stderr
    assert (copy / "saved_model" / "saved_model.pb").exists()
    assert not half_written(copy)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/run", "/dev/null/run", "a" * 300])
def test_a_place_where_nothing_can_be_written_is_told_in_one_line(
    quick: list[str], run: Path, command_here: Command, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    commands = [[*quick, f"hydra.run.dir={place}"], ["mode=train", f"run={place}"]]
    if place != "file":
        commands.append(["mode=predict", f"run={run}", "input=x", f"output={place}"])
    for arguments in commands:
        done = command_here(*arguments)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("error: ")
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
    run: Path, quick: list[str], command_here: Command, tmp_path: Path
) -> None:
    data = tmp_path / "other.csv"
    rows = [f"seldom {word} {n},{word}" for n in range(30) for word in ("negative", "positive")]
    data.write_text("text,label\n" + "\n".join(rows) + "\n")
    steps = ["train.max_steps=1", "train.learning_rate=1e-9", "evaluate.diagnostics=false"]
    options = [*quick, f"data.path={data}", f"task.start={run}", *steps]
    done = command_here(*options, f"hydra.run.dir={tmp_path / 'new'}")
    assert done.returncode == 0, done.stderr
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
    ("options", "told"),
    [
        (["task.start=nowhere"], "no model in 'nowhere'"),
        (["task.start={run}", "task.embedding.vectors={run}"], "leave task.embedding.vectors out"),
        (["task.start={run}", "model.width=7"], "take the model and pooling"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_start_that_cannot_be_is_told(
    run: Path, quick: list[str], command_here: Command, options: list[str], told: str
) -> None:
    done = command_here(*quick, *(option.format(run=run) for option in options))
    assert done.returncode == 1
    assert told in done.stderr
