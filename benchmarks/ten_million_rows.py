"""Memory and time that ten million rows take, on their first and on their second start.

    python benchmarks/ten_million_rows.py --rows 1000000     two minutes
    python benchmarks/ten_million_rows.py                    about half an hour, 5 GB of disk

Writes a CSV of short labelled texts (words from a Zipf distribution, some of which decide the
label), then runs main.py on it twice for a few hundred updates, and samples the resident memory of
all its processes four times a second. Anonymous memory is the program's own; file-backed memory is
pages of mapped files, which the system takes back when it needs them. MB are of 10^6 bytes.

Target: a peak below 2,000 MB, anonymous and file-backed, at ten million rows; the second start
reads nothing again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from measuring import ROOT, machine, progress, table

VOCABULARY, TELLING = 50_000, 2_000
CHUNK = 100_000
SECONDS_BETWEEN_SAMPLES = 0.25
SHORT = 2.0
"""Seconds between two stages that are not worth a row."""

STAGE_END = re.compile(r"^(?P<title>.+): [\d,]+ \S+ in (?P<seconds>[\d.]+) s")
"""The last line of a progress bar."""


def write_rows(path: Path, rows: int, seed: int = 1) -> None:
    """A CSV with header text,label: 4 to 20 words a row, half of the labels "positive"."""
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, random.integers(3, 9))) for _ in range(VOCABULARY)]
    chances = np.cumsum(1 / np.arange(2, VOCABULARY + 2))
    chances /= chances[-1]
    weights = np.zeros(VOCABULARY)
    weights[:TELLING] = random.normal(size=TELLING)
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            lengths = random.integers(4, 21, count)
            ids = np.searchsorted(chances, random.random(lengths.sum()))
            ends = np.cumsum(lengths)
            scores = np.add.reduceat(weights[ids], ends - lengths)
            labels = np.where(scores + random.normal(size=count) > 0, "positive", "negative")
            tokens = [words[i] for i in ids.tolist()]
            begin = 0
            for end, label in zip(ends.tolist(), labels.tolist(), strict=True):
                file.write(f"{' '.join(tokens[begin:end])},{label}\n")
                begin = end
            progress(f"writing rows: {start + count:,} of {rows:,}")


@dataclass
class Watched:
    """A command's life: samples of (moment, MB anonymous, MB file-backed) and its lines."""

    samples: list[tuple[float, float, float]] = field(default_factory=list)
    lines: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0

    def peak(self, begin: float = 0.0, end: float = float("inf")) -> tuple[float, float, float]:
        """MB at most between two moments: in all, anonymous, file-backed; each on its own."""
        within = [(own, files) for at, own, files in self.samples if begin <= at <= end]
        if not within:
            return 0.0, 0.0, 0.0
        own, files = zip(*within, strict=True)
        return max(map(sum, within)), max(own), max(files)

    def stages(self) -> list[tuple[str, float, float]]:
        """Title, begin and end of each stage that said when it ended, and of what lies between."""
        found, before, last = [], "the start", 0.0
        for at, line in self.lines:
            if match := STAGE_END.match(line):
                begin = at - float(match["seconds"])
                if begin - last > SHORT:
                    found.append((f"(after {before})", last, begin))
                before, last = match["title"], at
                found.append((before, begin, at))
        return [*found, (f"(after {before})", last, self.seconds)]


def watch(command: list[str], folder: Path) -> Watched:
    """Runs a command and samples the memory of all its processes. ValueError if it fails."""
    watched, begun = Watched(), time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def read() -> None:
        for line in process.stdout or ():
            watched.lines.append((time.monotonic() - begun, line.rstrip()))
            progress(line.rstrip())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    root = psutil.Process(process.pid)
    while process.poll() is None:
        watched.samples.append((time.monotonic() - begun, *resident(root)))
        time.sleep(SECONDS_BETWEEN_SAMPLES)
    reader.join()
    watched.seconds = time.monotonic() - begun
    if process.returncode:
        last = "\n".join(line for _, line in watched.lines[-15:])
        raise ValueError(f"{' '.join(command)} must end with 0; it ended with:\n{last}")
    return watched


def resident(root: psutil.Process) -> tuple[float, float]:
    """MB of a process and its children: anonymous, file-backed (0 where the system can't tell).

    Of file-backed memory the largest process's counts, since all map the same libraries and data.
    """
    own = files = 0.0
    try:
        for process in [root, *root.children(recursive=True)]:
            memory = process.memory_info()
            shared = getattr(memory, "shared", 0)
            own += (memory.rss - shared) / 1e6
            files = max(files, shared / 1e6)
    except psutil.NoSuchProcess:
        pass
    return own, files


def command(data: Path, cache: Path, run: Path, overrides: list[str]) -> list[str]:
    return [
        sys.executable, str(ROOT / "main.py"), "data=text_files", f"data.path={data}",
        f"prepare.cache_dir={cache}", "prepare.test=0.01", "prepare.validation=0.01",
        "train.max_steps=300", "evaluate.diagnostics=false", f"hydra.run.dir={run}", *overrides,
    ]  # fmt: skip


def show(name: str, watched: Watched, metrics: dict, rows: int, size: int) -> None:
    whole, own, files = watched.peak()
    target = "met" if whole < 2000 else "missed"
    lines = [["all", f"{watched.seconds:.0f}", f"{whole:,.0f}", f"{own:,.0f}", f"{files:,.0f}"]]
    for title, begin, end in watched.stages():
        # A sample may lie on either side of a stage that is shorter than the pause between two.
        peaks = watched.peak(begin, end + SECONDS_BETWEEN_SAMPLES)
        peak = [f"{value:,.0f}" for value in peaks]
        lines.append([title, f"{end - begin:.0f}", *peak])
    accuracy = metrics["test"]["accuracy"]["value"]
    seconds = ", ".join(f"{stage} {spent:.0f} s" for stage, spent in metrics["seconds"].items())
    table(
        f"{name}: {rows:,} rows, {size / 1e6:,.0f} MB of CSV; {seconds}; test accuracy "
        f"{accuracy:.3f}. Peak below 2,000 MB: {target}\n{machine()}",
        ["stage", "seconds", "peak MB", "anonymous MB", "file-backed MB"],
        lines,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", help="for file, cache and runs; default: a temporary one")
    parser.add_argument("overrides", nargs="*", help="as for main.py, such as model=lstm")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="rows-") as name:
        folder = Path(name)
        data, cache = folder / "rows.csv", folder / "cache"
        write_rows(data, options.rows)
        for number, start in enumerate(("First start", "Second start"), start=1):
            run = folder / f"run{number}"
            watched = watch(command(data, cache, run, options.overrides), folder)
            metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
            show(start, watched, metrics, options.rows, data.stat().st_size)


if __name__ == "__main__":
    main()
