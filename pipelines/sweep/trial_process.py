"""One process a run: started, watched and ended, so that all of its memory goes back.

Runs are forked from a server, the standard library's, which has imported TensorFlow and the rest,
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
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import cast

import psutil

from pipelines.core.paths import MAIN
from pipelines.runs.directory import Run
from pipelines.runs.parallel import CORES
from pipelines.runs.signals import SIGNALS

SCRIPT = MAIN
"""What is run."""

IMPORTED: tuple[str, ...] = ("pipelines.sweep.preload",) if sys.platform == "linux" else ()
"""What a run finds imported. Elsewhere than on Linux, libraries may not bear being forked."""

WITH_SERVER = 255
"""Exit code of a run whose server was killed, which asks the run to end."""

GRACE = 60.0
"""Seconds from the request to end, in which a run saves where it stands, to its being killed."""

LONGEST_REASON = 300


class RunProcess:
    """A run under way. What it says goes to `log`; its process is asked to end when ours ends.

    threads  that it computes with; None for all cores.
    """

    def __init__(
        self, overrides: Sequence[str], directory: Path, log: Path, *, threads: int | None
    ):
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
        context.set_forkserver_preload(list(IMPORTED))
        given = arguments_for(overrides, self.run), log, environment(threads)
        self.process = context.Process(target=_do, args=(SCRIPT, *given))
        resource_tracker.ensure_running()  # which would let signals through again
        with _signals_held_back():  # the server inherits that, and so isn't ended before its runs
            self.process.start()
        self.pid = cast(int, self.process.pid)

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
        code = self.process.exitcode
        # Without its server nobody knows what became of it but that it is still there.
        return None if code == WITH_SERVER and psutil.pid_exists(self.pid) else code

    def end(self) -> None:
        """Asks it to save where it stands and end."""
        if self.told_to_end is None and self.returncode is None:
            self.told_to_end = time.monotonic()
            self.process.terminate()

    def kill(self) -> None:
        """With all processes that it started."""
        if self.returncode is not None:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # it isn't a group of its own yet
            self.process.kill()

    def resident_bytes(self) -> int:
        """Of the process and all that it started; 0 once it has ended."""
        try:
            process = psutil.Process(self.pid)
            family = [process, *process.children(recursive=True)]
            now = sum(one.memory_info().rss for one in family)
        except psutil.Error:
            return 0
        self.peak_bytes = max(self.peak_bytes, now)
        return now

    def reason(self) -> str:
        """Why it ended otherwise than well, in a line."""
        code = self.returncode
        if code == WITH_SERVER:
            return "it was ended, since the process that had started it was killed"
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


def share_of_cores(parallel: int) -> int | None:
    """Threads of each of so many runs at a time; None where one has all cores."""
    return max(1, CORES // parallel) if parallel > 1 else None


def environment(threads: int | None) -> dict[str, str]:
    """Ours, with so many threads, unless somebody has said how many."""
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    given = {} if threads is None else dict.fromkeys(names, str(threads))
    return {**given, **os.environ}


HELD_BACK = (*SIGNALS, signal.SIGHUP)


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _do(script: Path, arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    """In the new process: the script, as if it had been started by itself."""
    # Ctrl-C is for the sweep to hand on, when what it means is known.
    os.setsid()
    _end_with_sweep()
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for number, file in enumerate((nothing, output, output)):
        os.dup2(file, number)
    for number, name in ((1, "stdout"), (2, "stderr")):
        setattr(sys, name, os.fdopen(number, "w", buffering=1, closefd=False))
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
    except KeyboardInterrupt:  # which came before
        sys.exit(128 + signal.SIGINT)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


def _end_with_sweep() -> None:
    """However the sweep ends, or the server, this process is asked to end too."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
        if os.getppid() == 1:
            signal.raise_signal(signal.SIGTERM)  # the server had ended before
