"""Runs that are killed or stopped go on to the same weights; what is damaged is told."""

from __future__ import annotations

import io
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from whole_runs import (
    FEW_STAGES,
    find_half_written,
    have_same_weights,
    kill,
    read_history,
    read_metrics,
    start_main,
    wait_for,
)

from pipelines.runs.directory import Run


def test_a_run_killed_in_any_stage_goes_on_to_the_same_weights_to_the_last_bit(
    run: Path, quick_overrides: list[str], command_here: Command, tmp_path: Path
) -> None:
    """Each start is a process of its own: what one seed gives, it gives in every process."""
    directory, cache, log = tmp_path / "run", tmp_path / "cache", tmp_path / "log"
    arguments = [
        *quick_overrides,
        f"prepare.cache_dir={cache}",
        "train.checkpoint_seconds=0.000001",
    ]
    process = start_main(*arguments, f"hydra.run.dir={tmp_path}/first", log=log)
    wait_for(lambda: list(cache.glob("*.tmp-*")), process)
    kill(process)
    assert list(cache.glob("*.tmp-*")), "it was killed too late to show anything"

    process = start_main(*arguments, f"hydra.run.dir={directory}", log=log)
    wait_for((directory / "checkpoints" / "last.npz").exists, process)
    kill(process)
    assert not (directory / "model.keras").exists(), "it was killed too late to show anything"
    assert not list(cache.glob("*.tmp-*"))

    process = start_main("mode=train", f"run={directory}", "export.saved_model=false", log=log)
    wait_for(lambda: "predict validation" in log.read_text(), process)
    kill(process)
    assert not (directory / "report.html").exists(), "it was killed too late to show anything"
    assert "Going on" in log.read_text()
    assert "reused" in log.read_text()

    for mode in ("evaluate", "train"):
        result = command_here(f"mode={mode}", f"run={directory}", *FEW_STAGES)
        assert result.returncode == 0, result.stderr
        assert have_same_weights(run, directory)
        assert read_history(run) == read_history(directory)
        assert read_metrics(directory)["test"] == read_metrics(run)["test"]
        assert (directory / "report.html").exists()
        assert not find_half_written(directory)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_says_how_to_go_on(
    quick_overrides: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    directory, log = tmp_path / "stopped", tmp_path / "log"
    process = start_main(
        *quick_overrides, f"hydra.run.dir={directory}", "train.epochs=100000", log=log
    )
    wait_for((directory / "history.jsonl").exists, process)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert f"mode=train run={directory}" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert (directory / "checkpoints" / "last.npz").exists()


def flip_bit(content: bytes) -> bytes:
    """With one bit changed in the middle, where the weights are."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda _: b"", flip_bit])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_leads_to_the_same_weights(
    run: Path, copy: Path, command_here: Command, damage: Callable[[bytes], bytes]
) -> None:
    last, before = (Run(copy).checkpoint(age) for age in (0, 1))
    assert before.exists()
    last.write_bytes(damage(last.read_bytes()))
    result = command_here("mode=train", f"run={copy}", *FEW_STAGES)
    assert result.returncode == 0, result.stderr
    assert f"{last} is damaged" in result.stderr
    assert "Going on from the checkpoint before" in result.stderr
    assert "Going on at epoch 2" in result.stderr
    assert have_same_weights(run, copy)
    assert read_history(run) == read_history(copy)
    assert read_curve(copy) == [row["step"] for row in read_history(copy)]


def read_curve(directory: Path) -> list[int]:
    """The updates at which TensorBoard shows a loss."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return sorted(
        event.step
        for path in (directory / "tensorboard").glob("events.*")
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == "train/loss"
    )


def test_a_file_in_the_place_of_tensorboards_directory_is_reported_and_kept(
    copy: Path, command_here: Command
) -> None:
    shutil.rmtree(copy / "tensorboard")
    (copy / "tensorboard").write_text("mine")
    result = command_here("mode=train", f"run={copy}", "train.epochs=3", *FEW_STAGES)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("must be a directory: move the file away")
    assert (copy / "tensorboard").read_text() == "mine"


def cut_in_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garble(content: bytes) -> bytes:
    return content[:20] + b"\x00{\xff"


def remove(content: bytes) -> None:
    return None


def change_task(content: bytes) -> bytes:
    return content.replace(b"name: sentiment", b"name: speech")


def replace_by_other_weights(content: bytes) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{"model:0": np.zeros(1), "state": np.frombuffer(b"{}", np.uint8)})
    return file.getvalue()


@pytest.mark.parametrize(
    ("path", "damage", "mode", "message"),
    [
        ("config.yaml", cut_in_half, "evaluate", "config.yaml is damaged"),
        ("config.yaml", garble, "train", "config.yaml is damaged"),
        ("config.yaml", remove, "predict", "holds no config.yaml"),
        ("config.yaml", change_task, "evaluate", "no such task: 'speech'"),
        ("model.keras", cut_in_half, "evaluate", "model.keras is damaged"),
        ("model.keras", garble, "export", "model.keras is damaged"),
        ("model.keras", remove, "evaluate", "resume with mode=train"),
        ("saved_model/saved_model.pb", cut_in_half, "predict", "saved_model is damaged"),
        ("saved_model/variables/variables.index", garble, "predict", "saved_model is damaged"),
        ("saved_model/assets.extra/imports.txt", remove, "predict", "saved_model is damaged"),
        ("checkpoints/best.npz", cut_in_half, "train", "best.npz is damaged"),
        (
            "checkpoints/best.npz",
            replace_by_other_weights,
            "train",
            "best.npz is damaged",
        ),
        ("checkpoints/best.npz", remove, "train", "best.npz is missing"),
        ("metrics.json", cut_in_half, "evaluate", "metrics.json is damaged"),
        ("metrics.json", garble, "train", "metrics.json is damaged"),
        ("history.jsonl", garble, "evaluate", "history.jsonl is damaged"),
        ("codec/tokens.json", cut_in_half, "evaluate", "tokens.json is damaged"),
        ("codec/label.json", remove, "train", "label.json is missing"),
    ],
)
def test_a_damaged_run_is_reported_in_one_line(
    copy: Path,
    command_here: Command,
    path: str,
    damage: Callable[[bytes], bytes | None],
    mode: str,
    message: str,
) -> None:
    content = damage((copy / path).read_bytes())
    (copy / path).unlink()
    if content is not None:
        (copy / path).write_bytes(content)
    more = {"predict": ["input=x"], "evaluate": ["evaluate.diagnostics=false"]}.get(mode, [])
    result = command_here(f"mode={mode}", f"run={copy}", *more)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert message in result.stderr.splitlines()[-1]
    assert not find_half_written(copy)


def test_a_codec_that_is_gone_is_taken_from_the_data_again(
    copy: Path, run: Path, command_here: Command
) -> None:
    shutil.rmtree(copy / "codec")
    result = command_here("mode=evaluate", f"run={copy}", "evaluate.diagnostics=false")
    assert result.returncode == 0, result.stderr
    assert read_metrics(copy)["test"] == read_metrics(run)["test"]
    for name in ("tokens.json", "label.json"):
        assert (copy / "codec" / name).read_bytes() == (run / "codec" / name).read_bytes()


def test_an_export_that_was_killed_between_two_renames_is_mended(
    copy: Path, command_here: Command
) -> None:
    (copy / "saved_model").rename(copy / ".old.saved_model")
    result = command_here("mode=predict", f"run={copy}", "input=x")
    assert result.returncode == 1
    assert "make one with mode=export" in result.stderr.splitlines()[-1]
    result = command_here("mode=evaluate", f"run={copy}", "evaluate.diagnostics=false")
    assert result.returncode == 0, result.stderr
    assert (copy / "saved_model" / "saved_model.pb").exists()
    assert not find_half_written(copy)
