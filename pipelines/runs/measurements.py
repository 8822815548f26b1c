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
from typing import Any

from pipelines.runs.directory import Run

log = logging.getLogger(__name__)

PACKAGES = ("keras", "tensorflow", "numpy", "pyarrow", "scikit-learn", "hydra-core")


class Stopwatch:
    """Writes the seconds of each stage, and their total, into the run's metrics.

    A resumed training adds its seconds to those before, as it continues the same work. Other stages
    start from the beginning, so their seconds replace those before.
    """

    def __init__(self, run: Run):
        self.run = run

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        before = self.run.read_metrics().get("seconds", {})
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            earlier = before.get(stage, 0.0) if stage == "train" else 0.0
            seconds = {**before, stage: earlier + spent}
            seconds.pop("total", None)
            seconds["total"] = sum(seconds.values())
            if self.run.directory.exists():
                self.run.update_metrics(seconds={k: round(v, 3) for k, v in seconds.items()})


def peak_memory() -> float:
    """The largest resident memory of this process so far, in MB of 10^6 bytes."""
    # Linux passes the other figure, ru_maxrss, on to a child: it may be the parent's peak.
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as file:
        found = [line.split()[1] for line in file if line.startswith("VmHWM")]
        if found:
            return round(int(found[0]) * 1024 / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return round(peak * unit / 1e6, 1)


def environment() -> dict[str, Any]:
    return {
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "processor": _processor(),
        },
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor()
