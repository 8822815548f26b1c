"""Jobs with a time limit, which is signalled as Submitit does: its handler raises."""

import os
import signal
import subprocess
import threading

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus


class TimeLimit(BasicLauncher):
    """Each job has `seconds`, and is requeued until it has had `turns`."""

    def __init__(self, seconds: float, turns: int):
        super().__init__()
        self.seconds, self.turns = seconds, turns

    def launch(self, job_overrides: list[list[str]], initial_job_idx: int) -> list[JobReturn]:
        def over(*_: object) -> None:
            asking = subprocess.Popen(["sleep", "0.1"])
            asking.terminate()  # Slurm does so with all processes of the job
            if asking.wait():
                raise RuntimeError("the command that requeues the job was ended")
            raise TimeoutError("the job's time is over")

        signal.signal(signal.SIGUSR2, over)
        returns = []
        for place, overrides in enumerate(job_overrides, initial_job_idx):
            for _ in range(self.turns):
                limit = threading.Timer(self.seconds, os.kill, (os.getpid(), signal.SIGUSR2))
                limit.start()
                (returned,) = super().launch([overrides], place)
                limit.cancel()
                if returned.status == JobStatus.COMPLETED:
                    break
            returns.append(returned)
        return returns
