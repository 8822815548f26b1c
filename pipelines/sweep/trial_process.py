"""One process per run, which is started, watched and ended, so that all of its memory is freed.

Runs are forked from the standard library's fork server. It has imported TensorFlow and the rest,
but has not started TensorFlow's runtime: importing takes seconds, and so happens once per sweep.
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
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import psutil

from pipelines.core.paths import MAIN, python_path
from pipelines.runs.directory import Run
from pipelines.runs.parallel import CORES
from pipelines.runs.signals import SIGNALS

PRELOADED: tuple[str, ...] = ("pipelines.sweep.preload",) if sys.platform == "linux" else ()
"""Modules that the server imports. On other systems, some libraries can't be forked safely."""

SERVER_LOST = 255
"""Exit code of a run whose fork server was killed; the run is then asked to end."""

GRACE_SECONDS = 60.0
"""Seconds that a run has to save a checkpoint before it is killed."""

MAX_REASON_LENGTH = 300

BLOCKED_SIGNALS = (*SIGNALS, signal.SIGHUP)


@dataclass(frozen=True)
class RunScript:
    """What a trial runs.

    path       the script, which gets the run's overrides as its arguments.
    preloaded  modules that are imported once, before runs are forked.
    """

    path: Path = MAIN
    preloaded: tuple[str, ...] = PRELOADED


MAIN_SCRIPT = RunScript()


@contextlib.contextmanager
def _import_from_here() -> Iterator[None]:
    """The server, too, imports this code's own packages before any installed copy of it, and
    nothing from the working directory.

    Before 3.12 Python doesn't tell the server where modules are (sys.path).
    """
    given = {"PYTHONPATH": python_path(), "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class RunProcess:
    """The process of a run. It is asked to end when this process ends.

    log      receives the run's output.
    threads  that the run computes with; None for all cores.
    """

    def __init__(
        self,
        overrides: Sequence[str],
        directory: Path,
        log: Path,
        *,
        threads: int | None,
        script: RunScript = MAIN_SCRIPT,
    ):
        self.run = Run(directory)
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.started_at = time.monotonic()
        self.terminated_at: float | None = None
        self.peak_bytes = 0
        with log.open("ab") as output:
            output.write(b"\n")
            self.log_start = output.tell()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(script.preloaded))
        arguments = command_line(overrides, self.run)
        self.process = context.Process(
            target=_run_script, args=(script.path, arguments, log, run_environment(threads))
        )
        with _import_from_here():
            # The resource tracker would unblock the signals when it starts, so it must be running.
            resource_tracker.ensure_running()
            # The server inherits blocked signals, so Ctrl-C doesn't end it before its runs.
            with _block_signals():
                self.process.start()
        pid = self.process.pid
        if pid is None:
            raise RuntimeError("the process of the run has no number after its start")
        self.pid = pid

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started_at

    def has_ended(self) -> bool:
        """Also kills the process once its time to end by itself is over."""
        terminated_at = self.terminated_at
        if terminated_at is not None and time.monotonic() - terminated_at > GRACE_SECONDS:
            self.kill()
        return self.returncode is not None

    @property
    def returncode(self) -> int | None:
        """As in subprocess: None until the process has ended, -n if signal n ended it."""
        code = self.process.exitcode
        # Without the server, the exit code is unknown; only whether the process exists is known.
        return None if code == SERVER_LOST and psutil.pid_exists(self.pid) else code

    def terminate(self) -> None:
        """Asks the run to save a checkpoint and end."""
        if self.terminated_at is None and self.returncode is None:
            self.terminated_at = time.monotonic()
            self.process.terminate()

    def kill(self) -> None:
        """Kills the process and all that it has started."""
        if self.returncode is not None:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # it doesn't lead a process group yet
            self.process.kill()

    def resident_bytes(self) -> int:
        """Memory of the process and all that it has started; 0 once it has ended."""
        try:
            process = psutil.Process(self.pid)
            family = [process, *process.children(recursive=True)]
            total = sum(member.memory_info().rss for member in family)
        except psutil.Error:
            return 0
        self.peak_bytes = max(self.peak_bytes, total)
        return total

    def failure_reason(self) -> str:
        """Why the run failed, in a line: the signal, or the last line of its log."""
        code = self.returncode
        if code == SERVER_LOST:
            return "it was ended, since the process that had started it was killed"
        if code == -signal.SIGKILL:
            return "it was killed, most likely since the machine ran out of memory"
        if code is not None and code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        with self.log.open("rb") as file:
            file.seek(self.log_start)
            text = file.read().decode("utf-8", "replace")
        # Without colours, and with each state of a progress bar on a line of its own.
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            return f"exit code {code}"
        return lines[-1].removeprefix("error: ")[:MAX_REASON_LENGTH]


def command_line(overrides: Sequence[str], run: Run) -> list[str]:
    """The arguments of a new run, or to resume the one in the directory."""
    if run.config.exists():
        return ["mode=train", f"run={run.directory}"]
    return [*overrides, f"hydra.run.dir={run.directory}"]


def threads_per_run(parallel: int) -> int | None:
    """Threads of each of `parallel` concurrent runs; None if a single one has all cores."""
    return max(1, CORES // parallel) if parallel > 1 else None


def run_environment(threads: int | None) -> dict[str, str]:
    """This process' environment with the number of threads; variables that are set win."""
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    defaults = {} if threads is None else dict.fromkeys(names, str(threads))
    return {**defaults, **os.environ}


@contextlib.contextmanager
def _block_signals() -> Iterator[None]:
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _run_script(script: Path, arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    """Runs in the forked process: the script, as if it had been started from a shell."""
    # A session of its own: Ctrl-C reaches the sweep only, which decides what it means for runs.
    os.setsid()
    _terminate_with_sweep()
    devnull = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor, file in enumerate((devnull, output, output)):
        os.dup2(file, descriptor)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        setattr(sys, name, os.fdopen(descriptor, "w", buffering=1, closefd=False))
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)
    except KeyboardInterrupt:  # the signal arrived while it was blocked
        sys.exit(128 + signal.SIGINT)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


def _terminate_with_sweep() -> None:
    """Has this process terminated when the sweep or the fork server ends, in whatever way."""

    def wait() -> None:
        sweep = multiprocessing.parent_process()
        if sweep is not None:
            sweep.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
    # The thread notices the end of the sweep. The server is this process' parent for the kernel,
    # which sends a signal when the parent dies.
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
        if os.getppid() == 1:
            signal.raise_signal(signal.SIGTERM)  # the server had died before
