"""SavedModels of several runs, asked in one fresh process: to start TensorFlow takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.paths import ROOT

CLIENT = ROOT / "pipelines" / "export" / "client.py"

ASK = """
import runpy, sys
client = runpy.run_path(sys.argv[1])
for directory in sys.argv[2:]:
    sys.argv[1] = f"{directory}/saved_model"
    with open(f"{directory}/asked.jsonl") as sys.stdin:
        with open(f"{directory}/answered.jsonl", "w", encoding="utf-8") as sys.stdout:
            client["main"]()
"""


def check_fresh_answers(
    runs: list[Path], given: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row
) -> None:
    """The SavedModels' answers to raw examples are those that the models were measured by.

    given  makes the SavedModel's input, as the client takes it, of what predictions.jsonl tells.
    """
    measured = {run: rows_of(run / "predictions.jsonl") for run in runs}
    for run, rows in measured.items():
        lines = [json.dumps(given(row["given"])) for row in rows]
        (run / "asked.jsonl").write_text("\n".join(lines) + "\n")
    # Without PYTHONPATH nothing of this project can be imported.
    command = [sys.executable, "-I", "-c", ASK, str(CLIENT), *map(str, runs)]
    result = subprocess.run(command, cwd=runs[0], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for run, rows in measured.items():
        answers = rows_of(run / "answered.jsonl")
        assert len(answers) == len(rows) > 0
        for row, answer in zip(rows, answers, strict=True):
            # What was measured knows by this name how many there are.
            shared = row["answer"].keys() & answer.keys() - {"tokens"}
            assert shared
            for name in shared:
                assert unpadded(answer[name]) == nearly(row["answer"][name]), (run, row, name)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def unpadded(value: Any) -> Any:
    """Outputs of open length are as long as the longest of their batch: the rest is "" or 0."""
    while isinstance(value, list) and value and value[-1] in ("", 0):
        value = value[:-1]
    return value


def nearly(value: Any) -> Any:
    """Equal to what `unpadded` leaves of it, but for the last digits of numbers."""
    if isinstance(value, list):
        return [nearly(item) for item in unpadded(value)]
    return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value
