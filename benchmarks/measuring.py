"""What the benchmarks share: systems timed in turns, and tables that say where they come from.

Machines are shared and change their speed, so systems that are compared run in one process, in
turns, and a ratio is the median of the ratios of each round: what slows a round slows all in it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# The checkout that this file lies in is measured, whatever else is installed.
sys.path.insert(0, str(ROOT))

Call = Callable[[int], Any]
"""Does a system's work; it gets the number of the round."""

PAUSE = 0.03
"""Seconds before a turn, in which the thread pool of the system before goes to sleep."""


def in_turns(systems: Mapping[str, Call], rounds: int, *, title: str) -> dict[str, list[float]]:
    """Seconds of system(round) for each system and round; the order rotates from round to round."""
    names = list(systems)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        progress(f"{title}: round {number + 1} of {rounds}")
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            time.sleep(PAUSE)
            begun = time.perf_counter()
            systems[name](number)
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Median over rounds of one system's seconds by another's."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def progress(text: str) -> None:
    """On standard error; on a terminal, in place of the last one."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def run_main(
    overrides: Sequence[str],
    *,
    title: str,
    started: Callable[[subprocess.Popen[str]], Any] | None = None,
) -> None:
    """main.py in a process of its own; started is given it. ValueError if it doesn't end with 0."""
    command = [sys.executable, str(ROOT / "main.py"), *overrides]
    progress(title)
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if started is not None:
        started(process)
    lines: deque[str] = deque(maxlen=15)
    for line in process.stdout or ():
        lines.append(line.rstrip())
        if sys.stderr.isatty():
            progress(f"{title}: {lines[-1]}")
    if process.wait():
        raise ValueError("\n".join([f"{' '.join(command)} must end with 0", *lines]))


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a Markdown table with aligned columns."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    rule = ["-" * width for width in widths]
    print(f"\n{title}\n")
    for row in [cells[0], rule, *cells[1:]]:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")
    sys.stdout.flush()


def machine() -> str:
    """Processor, cores, load and versions, in a line."""
    from importlib.metadata import PackageNotFoundError, version

    from pipelines.runs import measurements

    used, made_on = measurements.versions(), measurements.machine()
    versions = {name: used[name] for name in ("python", "keras", "tensorflow")}
    with contextlib.suppress(PackageNotFoundError):
        versions["torch"] = version("torch")
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return f"{made_on.processor}, {made_on.cores} cores, {load}; " + ", ".join(
        f"{name} {number}" for name, number in versions.items()
    )


def has_torch() -> bool:
    """Whether PyTorch is there to be compared with; if not, says what to do."""
    if importlib.util.find_spec("torch") is not None:
        return True
    print("PyTorch is not installed, its rows are left out: pip install '.[peers]'")
    return False


def on_best_threads(call: Call, trial: Callable[[], Any] | None = None) -> Call:
    """A PyTorch call on one thread or on all cores, whichever a trial (or the call) finds faster.

    OMP_NUM_THREADS, where it is set, decides instead. Beside other work PyTorch's threads wait for
    each other actively, and two may be a hundred times slower than one.
    """
    import torch

    def seconds(threads: int, enough: float) -> float:
        torch.set_num_threads(threads)
        best = float("inf")
        for _ in range(3):
            begun = time.perf_counter()
            call(0) if trial is None else trial()
            best = min(best, time.perf_counter() - begun)
            if best > enough:
                break
        return best

    cores, given = os.cpu_count() or 1, os.environ.get("OMP_NUM_THREADS")
    alone = seconds(1, enough=float("inf"))
    if given is not None:
        threads = int(given)
    else:
        threads = cores if seconds(cores, enough=3 * alone) < alone else 1

    def run(number: int) -> Any:
        torch.set_num_threads(threads)
        return call(number)

    return run


def configure(overrides: Sequence[str]) -> Any:
    """The settings (pipelines.config.schema.Config) of a command line, checked."""
    from hydra import compose, initialize_config_dir

    from pipelines.config.hydra_hooks import register_resolvers
    from pipelines.config.restore import to_plain_values
    from pipelines.config.schema import check, parse

    register_resolvers()
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        config = parse(to_plain_values(compose("config", overrides=list(overrides))))
    check(config)
    return config


def load_data(config: Any) -> Any:
    """The encoded data (pipelines.data.prepare.Prepared) of a configuration, as a run has it."""
    from pipelines.stages import load_encoded_data

    return load_encoded_data(config)
