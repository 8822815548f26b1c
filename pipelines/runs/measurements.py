"""What a run costs and where it ran: seconds, memory, versions and machine."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from pipelines.runs.directory import Run
from pipelines.runs.metrics import Machine

log = logging.getLogger(__name__)

PACKAGES = ("keras", "tensorflow", "numpy", "pyarrow", "scikit-learn", "hydra-core")


class Record:
    """A run, and what its stages measure: in memory, and in metrics.json after each stage."""

    def __init__(self, run: Run):
        self.run = run
        self.metrics = run.load_metrics()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures the seconds of a stage, and saves the metrics when it ends, however it ends.

        Training goes on where it stopped, so that its seconds add up; other stages are done anew.
        """
        start = time.perf_counter()
        seconds = self.metrics.seconds
        earlier = seconds.get(name, 0.0) if name == "train" else 0.0
        try:
            yield
        finally:
            seconds[name] = round(earlier + time.perf_counter() - start, 3)
            seconds.pop("total", None)
            seconds["total"] = round(sum(seconds.values()), 3)
            if self.run.directory.exists():
                self.save()

    def save(self) -> None:
        self.run.save_metrics(self.metrics)


def peak_memory() -> float:
    """The largest resident memory of this process so far, in MB of 10^6 bytes."""
    # Linux passes the other figure, ru_maxrss, on to a child: it may be the parent's peak.
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as file:
        values = [line.split()[1] for line in file if line.startswith("VmHWM")]
        if values:
            return round(int(values[0]) * 1024 / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return round(peak * unit / 1e6, 1)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a run computes."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def machine() -> Machine:
    return Machine(system=platform.platform(), cores=os.cpu_count(), processor=_processor())


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor()
