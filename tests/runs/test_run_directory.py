"""A run's directory: its files are complete, whatever happens, and of one evaluation."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pipelines.core.errors import UserError
from pipelines.core.files import atomic_replace, atomic_write
from pipelines.runs.directory import Run


def test_a_file_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[tuple[str, int]] = []
    sync, replace, mine = os.fsync, os.replace, threading.get_ident()

    def note(what: str, inode: int) -> None:
        # Threads that earlier tests have left, as writers of curves, sync files of their own.
        if threading.get_ident() == mine:
            did.append((what, inode))

    def synced(descriptor: int) -> None:
        sync(descriptor)
        note("sync", os.fstat(descriptor).st_ino)

    def replaced(source: Path, target: Path) -> None:
        note("replace", source.stat().st_ino)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    file, folder = (tmp_path / "a.txt").stat().st_ino, tmp_path.stat().st_ino
    assert did == [("sync", file), ("replace", file), ("sync", folder)]


def test_a_file_stays_as_it_was_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    with atomic_write(pipe) as path:
        path.write_text("answers")
    reader.join(10)
    assert read == ["answers"]
    assert pipe.is_fifo()


def test_a_directory_is_not_written_over_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=tmp_path.name), atomic_write(tmp_path):
        raise AssertionError("too late: what is written would be lost")


def folder(path: Path, content: str) -> Path:
    (path / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/index"):
        (path / name).write_text(content)
    return path


def content(path: Path) -> set[str]:
    return {file.read_text() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("step", ["os.replace", "os.fsync", "shutil.rmtree"])
def test_a_directory_is_replaced_whole_wherever_the_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    run = Run(tmp_path)
    folder(run.saved_model, "old")
    new = folder(tmp_path / ".1.saved_model", "new")
    calls: list[str] = []
    with monkeypatch.context() as patch:
        module, name = {"os": os, "shutil": shutil}[step.partition(".")[0]], step.rpartition(".")[2]
        patch.setattr(module, name, killed_at(number, getattr(module, name), calls))
        with suppress(KeyboardInterrupt):
            atomic_replace(new, run.saved_model)
    there = [content(path) for path in tmp_path.iterdir() if path != new]
    assert {"old"} in there or {"new"} in there
    with run.lock():
        pass
    early = step == "os.fsync" or (step == "os.replace" and number < 3)
    assert content(run.saved_model) == ({"old"} if early else {"new"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.log", "saved_model"]


def killed_at(
    number: int, function: Callable[..., object], calls: list[str]
) -> Callable[..., object]:
    """The function, whose call of that number ends the process instead."""

    def call(*arguments: object, **more: object) -> object:
        calls.append("call")
        if len(calls) == number:
            raise KeyboardInterrupt
        return function(*arguments, **more)

    return call


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe\x00", b'{"a": "\xff"}'])
def test_damaged_metrics_and_history_are_errors(tmp_path: Path, damage: bytes) -> None:
    run = Run(tmp_path)
    run.metrics.write_bytes(damage)
    with pytest.raises(UserError, match=r"metrics\.json is damaged"):
        run.load_metrics()
    run.history.write_bytes(b'{"step": 1}\n' + damage + b"\n")
    if damage not in (b"", b"[1]"):
        with pytest.raises(UserError, match=r"history\.jsonl is damaged"):
            run.read_history()
