"""Jobs as processes on other hosts, whose locks can't be seen here; the first is lost.

Like Submitit, the launcher reports the first lost job, and nothing of the others.
"""

import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus

from pipelines.sweep import trials


class LostJob(BasicLauncher):
    """What happens to the jobs of the first batch, which has trial 0.

    first   killed: once its run has started; refused: it never starts.
    second  runs: it has started by then; waits: it is in the queue, and starts after trial 2.
    """

    def __init__(self, first: str, second: str = "runs"):
        super().__init__()
        self.first, self.second = first, second

    def launch(self, job_overrides: list[list[str]], initial_job_idx: int) -> list[JobReturn]:
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        if 0 not in numbers:
            jobs = [self._start(*one) for one in zip(numbers, job_overrides, strict=True)]
            for job in jobs:
                job.join()
            return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]
        if self.first == "refused":
            raise RuntimeError("no jobs are accepted")
        lost = self._start(0, job_overrides[0])
        for number, overrides in zip(numbers[1:], job_overrides[1:], strict=True):
            waits = self.second == "waits"
            self._start(number, overrides, waits=waits)
            if not waits:
                self._wait_for(number, "starts.txt")
        self._wait_for(0, "starts.txt")
        os.kill(lost.pid or 0, signal.SIGKILL)
        raise RuntimeError("job 0 has not produced any output (state: FAILED)")

    def _start(
        self, number: int, overrides: list[str], waits: bool = False
    ) -> multiprocessing.Process:
        job = multiprocessing.get_context("fork").Process(
            target=self._do, args=(number, overrides, waits)
        )
        job.start()
        return job

    def _do(self, number: int, overrides: list[str], waits: bool) -> None:
        sweep = Path(self.config.hydra.sweep.dir).resolve()
        for descriptor in os.listdir("/proc/self/fd"):
            path = Path(os.path.realpath(f"/proc/self/fd/{descriptor}"))
            if path.is_dir() and path.is_relative_to(sweep):
                os.close(int(descriptor))  # the sweep's locks, which no other host has
        socket.gethostname = lambda: f"node{number}"
        trials.try_lock = lambda directory, timeout=0.0: os.open(  # type: ignore[assignment]
            directory.mkdir(parents=True, exist_ok=True) or directory, os.O_RDONLY
        )
        if waits:
            self._wait_for(2, "metrics.json")
            time.sleep(4)  # the sweep ends meanwhile
        super().launch([overrides], number)

    def _wait_for(self, number: int, name: str) -> None:
        while not (Path(self.config.hydra.sweep.dir) / f"{number:04d}" / name).exists():
            time.sleep(0.01)
