"""Jobs as processes on other hosts, whose locks nobody here sees; the first is lost.

As Submitit has it: the launcher tells of the first job that is lost, and no more of the others.
"""

import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus

from pipelines.sweep import trials as stored


class LostJob(BasicLauncher):
    """What becomes of the jobs of the first batch, where there is one of trial 0.

    first   killed: once its run has begun; refused: it never begins.
    second  goes on: it is under way by then; waits: it is in the queue, and begins later.
    """

    def __init__(self, first: str, second: str = "goes on"):
        super().__init__()
        self.first, self.second = first, second

    def launch(self, job_overrides: list[list[str]], initial_job_idx: int) -> list[JobReturn]:
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        if 0 not in numbers:
            jobs = [self._started(*one) for one in zip(numbers, job_overrides, strict=True)]
            for job in jobs:
                job.join()
            return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]
        if self.first == "refused":
            raise RuntimeError("nobody takes jobs")
        lost = self._started(0, job_overrides[0])
        for number, overrides in zip(numbers[1:], job_overrides[1:], strict=True):
            waits = 4.0 if self.second == "waits" else 0.0
            self._started(number, overrides, waits)
            if not waits:
                self._wait_for_run(number)
        self._wait_for_run(0)
        os.kill(lost.pid or 0, signal.SIGKILL)
        raise RuntimeError("job 0 has not produced any output (state: FAILED)")

    def _started(
        self, number: int, overrides: list[str], after: float = 0.0
    ) -> multiprocessing.Process:
        job = multiprocessing.get_context("fork").Process(
            target=self._do, args=(number, overrides, after)
        )
        job.start()
        return job

    def _do(self, number: int, overrides: list[str], after: float) -> None:
        sweep = Path(self.config.hydra.sweep.dir).resolve()
        for descriptor in os.listdir("/proc/self/fd"):
            path = Path(os.path.realpath(f"/proc/self/fd/{descriptor}"))
            if path.is_dir() and path.is_relative_to(sweep):
                os.close(int(descriptor))  # a lock of the sweep's, which no other host has
        socket.gethostname = lambda: f"node{number}"
        stored.hold = lambda directory, seconds=0.0: os.open(  # type: ignore[assignment]
            directory.mkdir(parents=True, exist_ok=True) or directory, os.O_RDONLY
        )
        time.sleep(after)
        super().launch([overrides], number)

    def _wait_for_run(self, number: int) -> None:
        while not list(Path(self.config.hydra.sweep.dir).glob(f"{number:04d}/starts.txt")):
            time.sleep(0.01)
