"""Jobs that are processes of their own, of which the first is lost; as Submitit tells that."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus


class LostJob(BasicLauncher):
    """Job 0 is killed once its run has begun, or never begins; then nobody waits for the others."""

    def __init__(self, begins: bool):
        super().__init__()
        self.begins = begins

    def launch(self, job_overrides: list[list[str]], initial_job_idx: int) -> list[JobReturn]:
        fork: Callable[..., multiprocessing.Process] = multiprocessing.get_context("fork").Process
        jobs = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            if number == 0 and not self.begins:
                raise RuntimeError("nobody takes jobs")
            jobs.append(fork(target=super().launch, args=([overrides], number)))
            jobs[-1].start()
        if initial_job_idx == 0:
            while not list(Path(self.config.hydra.sweep.dir).glob("0000/starts.txt")):
                time.sleep(0.01)
            os.kill(jobs[0].pid or 0, signal.SIGKILL)
            raise RuntimeError("job 0 has not produced any output (state: FAILED)")
        for job in jobs:
            job.join()
        return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]
