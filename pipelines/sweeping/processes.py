"""One process a run: started, watched and ended, so that all of its memory goes back."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from pipelines.parallel import CORES
from pipelines.run import Run

MAIN = Path(__file__).parent.parent.parent / "main.py"

COMMAND: tuple[str, ...] = (sys.executable, str(MAIN))
"""What a run is started by."""

GRACE = 60.0
"""Seconds from the request to end, in which a run saves where it stands, to its being killed."""

LONGEST_REASON = 300


class RunProcess:
    """A run under way. What it says goes to `log`; its process ends with ours."""

    def __init__(self, overrides: Sequence[str], directory: Path, log: Path, *, parallel: int):
        self.run = Run(directory)
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.begun = time.monotonic()
        self.told_to_end: float | None = None
        self.peak_bytes = 0
        with log.open("ab") as output:
            output.write(b"\n")
            self.start_of_log = output.tell()
            self.process = subprocess.Popen(
                [*COMMAND, *arguments_for(overrides, self.run)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(parallel),
                # Ctrl-C is for us to hand on, when what it means is known.
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def ended(self) -> bool:
        if self.told_to_end is not None and time.monotonic() - self.told_to_end > GRACE:
            self.kill()
        return self.process.poll() is not None

    def end(self) -> None:
        """Asks it to save where it stands and end."""
        if self.told_to_end is None and self.process.poll() is None:
            self.told_to_end = time.monotonic()
            self.process.terminate()

    def kill(self) -> None:
        """With all processes that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def resident_bytes(self) -> int:
        """Of the process and all that it started; 0 once it has ended."""
        try:
            process = psutil.Process(self.process.pid)
            family = [process, *process.children(recursive=True)]
            now = sum(one.memory_info().rss for one in family)
        except psutil.Error:
            return 0
        self.peak_bytes = max(self.peak_bytes, now)
        return now

    def reason(self) -> str:
        """Why it ended otherwise than well, in a line."""
        code = self.process.returncode
        if code == -signal.SIGKILL:
            return "it was killed, most likely since the machine ran out of memory"
        if code is not None and code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        with self.log.open("rb") as file:
            file.seek(self.start_of_log)
            text = file.read().decode("utf-8", "replace")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1].removeprefix("error: ")[:LONGEST_REASON] if lines else f"exit code {code}"


def arguments_for(overrides: Sequence[str], run: Run) -> list[str]:
    """A new run, or going on with what its directory holds."""
    if run.config.exists():
        return ["mode=train", f"run={run.directory}"]
    return [*overrides, f"hydra.run.dir={run.directory}"]


def environment(parallel: int) -> dict[str, str]:
    """Threads for a share of the cores, unless somebody has said how many."""
    threads = str(max(1, CORES // parallel))
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    shared = dict.fromkeys(names, threads) if parallel > 1 else {}
    return {**shared, **os.environ, "PYTHONUNBUFFERED": "1"}


def _end_with_parent() -> None:
    """In the new process: however its parent ends, it is asked to end too (prctl, Linux)."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
