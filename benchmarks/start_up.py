"""Seconds from the command to the answer, of what needs no TensorFlow.

    python benchmarks/start_up.py

Each command runs in fresh processes, in turns. Target: under 1 s each. Expected on two quiet cores:
0.5 to 0.9 s. CPU is processor time, which a busy machine stretches less. The last row is what a
command would cost on top, were TensorFlow imported first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

from measuring import ROOT, in_turns, machine, table

LINE = "python main.py model="

COMMANDS = {
    "--help": (["--help"], 0, "The ten most useful settings", {}),
    "a misspelt setting: train.epoch=3": (["train.epoch=3"], 1, "did you mean train.epochs", {}),
    "a wrong value: train.epochs=many": (["train.epochs=many"], 1, "train.epochs", {}),
    # As Hydra's completion function for bash asks.
    f"tab completion of {LINE!r}": (
        ["-sc", "query=bash"], 0, "model=gru", {"COMP_LINE": LINE, "COMP_POINT": str(len(LINE))},
    ),
}  # fmt: skip
"""By title: arguments; the exit code and a part of the output that are right; the environment."""


def answer(title: str, folder: str) -> None:
    """Runs a command in a folder. ValueError unless it gave the right answer."""
    arguments, code, part, environment = COMMANDS[title]
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    said = done.stdout + done.stderr
    if done.returncode != code or part not in said:
        raise ValueError(
            f"{title} must end with {code} and say {part!r}; it ended with {done.returncode} and "
            f"said {said[-500:]!r}: mend the program, or COMMANDS here"
        )


class Command:
    """Runs one command and keeps the processor seconds of each time."""

    def __init__(self, title: str, folder: str):
        self.title, self.folder = title, folder
        self.cpu: list[float] = []

    def __call__(self, _: int) -> None:
        before = os.times()
        if self.title in COMMANDS:
            answer(self.title, self.folder)
        else:
            code = "import tensorflow"
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        after = os.times()
        user = after.children_user - before.children_user
        self.cpu.append(user + after.children_system - before.children_system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes of each command")
    options = parser.parse_args()
    imported = "for comparison: import tensorflow"
    with tempfile.TemporaryDirectory() as folder:
        commands = {title: Command(title, folder) for title in [*COMMANDS, imported]}
        for command in commands.values():
            command(0)  # files come from the disk once
            command.cpu.clear()
        seconds = in_turns(commands, options.rounds, title="start-up")
    rows = []
    for title, times in seconds.items():
        middle, cpu = statistics.median(times), statistics.median(commands[title].cpu)
        target = "" if title == imported else ("met" if middle < 1 else "missed")
        rows.append([title, f"{min(times):.2f}", f"{middle:.2f}", f"{cpu:.2f}", target])
    table(
        f"Seconds to the answer, {options.rounds} fresh processes each\n{machine()}",
        ["command", "best", "median", "CPU, median", "median under 1 s"],
        rows,
    )


if __name__ == "__main__":
    main()
