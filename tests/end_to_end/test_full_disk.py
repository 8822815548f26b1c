"""A disk that is full, at every stage: one line, nothing half-written, and going on after that."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Command, CommandResult, FinishedRun
from whole_runs import FEW_STAGES, find_half_written, have_same_weights, read_history, read_metrics

PLENTY = 1 << 16


class Disk:
    """A folder on a file system of its own, whose size is a matter of `room`."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self._mount(f"size={PLENTY}k")

    def _mount(self, options: str) -> None:
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        subprocess.run(mount, check=True, capture_output=True)

    @contextmanager
    def room(self, kilobytes: int) -> Iterator[None]:
        self._mount(f"remount,size={kilobytes}k")
        yield

    def close(self) -> None:
        # Files may still be open, or mapped into memory, in this process.
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class Limit(Disk):
    """For those who may not mount: no file of this process may be larger than the room."""

    def _mount(self, options: str) -> None: ...

    @contextmanager
    def room(self, kilobytes: int) -> Iterator[None]:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, most))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            signal.signal(signal.SIGXFSZ, before)

    def close(self) -> None: ...


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk: Disk
    try:
        disk = Disk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError):
        disk = Limit(tmp_path / "plain")
    yield disk
    disk.close()


def check_one_line(result: CommandResult) -> None:
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error") == 1
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_a_run_goes_on_after_each_time_the_disk_was_full(
    disk: Disk, finished_run: FinishedRun, quick_overrides: list[str], command_here: Command
) -> None:
    directory, failed = disk.folder / "run", 0
    for kilobytes in (4, 16, 24, 48, 80, 120, 150, 460, PLENTY):
        begun = (directory / "config.yaml").exists()
        new = [*quick_overrides, f"hydra.run.dir={directory}"]
        with disk.room(kilobytes):
            result = command_here(*(["mode=train", f"run={directory}"] if begun else new))
        assert not find_half_written(directory)
        if not result.returncode:
            break
        check_one_line(result)
        failed += 1
    assert failed > 4
    assert have_same_weights(finished_run.directory, directory)
    assert read_history(finished_run.directory) == read_history(directory)
    for split in ("validation", "test"):
        assert read_metrics(finished_run.directory)[split] == read_metrics(directory)[split]
    for name in ("predictions.jsonl", "codec/tokens.json", "codec/label.json"):
        assert (directory / name).read_bytes() == (finished_run.directory / name).read_bytes()
    answers = [
        json.loads(command_here("mode=predict", f"run={run}", "input=a superb film").stdout)
        for run in (finished_run.directory, directory)
    ]
    assert answers[0] == answers[1]


def test_a_new_run_prepares_after_each_time_the_cache_was_full(
    disk: Disk, quick_overrides: list[str], command_here: Command, tmp_path: Path
) -> None:
    cache, failed = disk.folder / "cache", 0
    arguments = [*quick_overrides, *FEW_STAGES, "train.max_steps=1", f"prepare.cache_dir={cache}"]
    for kilobytes in (4, 8, 20, 28, PLENTY):
        directory = tmp_path / f"run{kilobytes}"
        with disk.room(kilobytes):
            result = command_here(*arguments, f"hydra.run.dir={directory}")
        assert not list(cache.glob("*.tmp-*"))
        if not result.returncode:
            break
        check_one_line(result)
        if "can't write the cache" in result.stderr:
            failed += 1
            assert not directory.exists()
    assert failed
    assert read_metrics(directory)["data"]["splits"] == {"train": 120, "validation": 40, "test": 40}


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.csv", "answers.parquet"])
def test_predictions_that_do_not_fit_are_named_and_leave_nothing(
    name: str, disk: Disk, finished_run: FinishedRun, command_here: Command, tmp_path: Path
) -> None:
    (tmp_path / "many.txt").write_text("a superb film\n" * 500)
    asked = ["mode=predict", f"run={finished_run.directory}", f"input={tmp_path}/many.txt"]
    with disk.room(8):
        result = command_here(*asked, f"output={disk.folder}/{name}")
    check_one_line(result)
    assert f"error: {disk.folder}/{name}.partial: " in result.stderr
    assert not list(disk.folder.iterdir())
