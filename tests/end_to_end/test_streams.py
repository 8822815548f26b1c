"""Standard streams that are closed or full: it works, or one line says why not."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, FinishedRun

from pipelines.runs.logs import PlainFormatter


def main_by_shell(arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} {ROOT / 'main.py'} {arguments}"
    return subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=folder, timeout=300, check=False
    )


def test_predictions_need_standard_output_and_no_other_stream(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    predict = f"mode=predict run={finished_run.directory} input='a superb film'"
    result = main_by_shell(f"{predict} <&- 2>&-", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert '"label"' in result.stdout
    result = main_by_shell(f"{predict} output=answers.jsonl <&- >&- 2>&-", tmp_path)
    assert result.returncode == 0
    assert '"label"' in (tmp_path / "answers.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("input=x >&-", "standard output: Bad file descriptor"),
        ("input=x > /dev/full", "standard output: No space left on device"),
        ("input=x output=/dev/full", "/dev/full: No space left on device"),
        ("<&-", "standard input: Bad file descriptor"),
    ],
)
def test_what_cannot_be_read_or_written_is_named_in_one_line(
    arguments: str, message: str, finished_run: FinishedRun, tmp_path: Path
) -> None:
    result = main_by_shell(f"mode=predict run={finished_run.directory} {arguments}", tmp_path)
    assert (result.returncode, result.stderr) == (1, f"error: {message}\n")


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_mistake_is_told_whatever_is_closed(closed: str, tmp_path: Path) -> None:
    result = main_by_shell(f"train.epoch=3 {closed}", tmp_path)
    assert result.returncode == 1
    told = "" if "2>&-" in closed else "error: train.epoch: there is no such setting"
    assert result.stderr.startswith(told)
    assert "Traceback" not in result.stderr


def test_a_file_is_not_opened_in_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """Native libraries write to descriptor 2, whatever is there."""
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pipelines.core.streams import open_closed_streams\n"
        "open_closed_streams()\n"
        "assert open('file', 'w').fileno() > 2\n"
    )
    (tmp_path / "script.py").write_text(script)
    command = f"{sys.executable} script.py <&- >&- 2>&-"
    assert subprocess.run(command, shell=True, cwd=tmp_path, check=False).returncode == 0


def test_what_is_told_drives_no_terminal(tmp_path: Path) -> None:
    result = main_by_shell("$(printf 'task=senti\\033[31mment')", tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "\x1b" not in result.stderr
    arguments = ("\x9b2J",)
    record = logging.LogRecord("", logging.INFO, "", 0, "a \x1b]0;title\x07 %s", arguments, None)
    assert PlainFormatter("%(message)s").format(record) == "a ␛]0;title␇ \ufffd2J"
