"""One process a run: started, watched and ended, so that all of its memory goes back.

Runs are forked from a server of the standard library's, which has imported TensorFlow and the rest,
but has not started TensorFlow's runtime: importing takes seconds, and so is done once a sweep.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import re
import runpy
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from pipelines.parallel import CORES
from pipelines.run import Run

MAIN = Path(__file__).parent.parent.parent / "main.py"

SCRIPT = MAIN
"""What is run."""

IMPORTED: tuple[str, ...] = ("pipelines.sweeping.imported",) if sys.platform == "linux" else ()
"""What a run finds imported. Elsewhere than on Linux, libraries may not bear being forked."""

WITH_SERVER = 255
"""Exit code of a run whose server was killed, which asks the run to end."""

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
        context = multiprocessing.get_context("forkserver")
        # The main module is imported there too, or each run would import it.
        context.set_forkserver_preload(["__main__", *IMPORTED])
        arguments = arguments_for(overrides, self.run)
        self.process = context.Process(target=_do, args=(SCRIPT, arguments, log, os.getcwd()))
        with _sharing_cores(parallel):
            self.process.start()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def ended(self) -> bool:
        if self.told_to_end is not None and time.monotonic() - self.told_to_end > GRACE:
            self.kill()
        return self.returncode is not None

    @property
    def returncode(self) -> int | None:
        """As subprocess has it: None until it has ended, and - number if a signal ended it."""
        return self.process.exitcode

    def end(self) -> None:
        """Asks it to save where it stands and end."""
        if self.told_to_end is None and self.returncode is None:
            self.told_to_end = time.monotonic()
            self.process.terminate()

    def kill(self) -> None:
        """With all processes that it started."""
        try:
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        except ProcessLookupError:  # it has ended, or not yet a group of its own
            self.process.kill()

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
        code = self.returncode
        if code in (-signal.SIGKILL, WITH_SERVER):
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


@contextlib.contextmanager
def _sharing_cores(parallel: int) -> Iterator[None]:
    """Who starts meanwhile has threads for a share of the cores, unless somebody said how many."""
    names = {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"}
    ours = names - set(os.environ) if parallel > 1 else set()
    os.environ.update(dict.fromkeys(ours, str(max(1, CORES // parallel))))
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _do(script: Path, arguments: list[str], log: Path, folder: str) -> None:
    """In the new process: the script, as if it had been started by itself."""
    # Ctrl-C is for the sweep to hand on, when what it means is known.
    os.setsid()
    if sys.platform == "linux":
        _end_with_parent()
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for number, file in enumerate((nothing, output, output)):
        os.dup2(file, number)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir(folder)
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


def _end_with_parent() -> None:
    """However the server ends, which it does with the sweep, the run is asked to end (prctl)."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
    if os.getppid() == 1:
        signal.raise_signal(signal.SIGTERM)  # it had ended before
