"""How the cost of training grows: vocabulary, length, width, layers and rows, as a page.

    python benchmarks/scale.py                  # writes scale/page.html; about a quarter of an hour
    python benchmarks/scale.py --only length    # one of them
    python benchmarks/scale.py --rows 10000,100000,1000000,10000000    # half an hour more

Milliseconds are those of an update on one batch of 64 texts of one length, held in memory, the
default classifier with its defaults: 100 words of 20,000, 64 units, one layer, and one of these
varied. Cells and sizes take turns. Rows are counted in whole runs of main.py, as in
ten_million_rows.py, with their memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Call, configure, in_turns, machine, table
from ten_million_rows import command, watch, write_rows
from texts import Texts

from pipelines.core.sections import Figure, Table
from pipelines.distributed.tensorflow import import_tensorflow
from pipelines.report.page import Chapter, Code, write_page
from pipelines.report.plots import SERIES, set_log_scale
from pipelines.train.lazy_adam import LazySettings

CELLS = {cell: [f"model={cell}"] for cell in ("simple_rnn", "lstm", "gru")}
WHOLE = "gru, all rows in each update"
"""As any Adam does that passes over the whole matrix of words: ours with nothing lazy."""

BATCH, ROUNDS = 64, 7
BASE = {"vocabulary": 20_000, "length": 100, "width": 64, "layers": 1}
SIZES = {
    "vocabulary": [1_000, 10_000, 100_000, 1_000_000],
    "length": [12, 25, 50, 100, 200, 400, 800],
    "width": [16, 32, 64, 128, 256, 512],
    "layers": [1, 2, 4, 8],
}
UNITS = {
    "vocabulary": "words", "length": "words of a text", "width": "units", "layers": "layers",
    "rows": "rows",
}  # fmt: skip

Times = dict[str, dict[int, float]]
"""Milliseconds of an update, by system and size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--directory", type=Path, default=Path("scale"))
    parser.add_argument("--only", choices=[*SIZES, "rows"])
    parser.add_argument("--rows", default="10000,100000,1000000", help="of a file: %(default)s")
    options = parser.parse_args()
    import_tensorflow()
    chapters = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RECURRENT_CACHE"] = str(folder / "cache")
        for axis in [options.only] if options.only else [*SIZES, "rows"]:
            if axis == "rows":
                counts = [int(count) for count in options.rows.split(",")]
                parts = of_rows({count: run(folder, count) for count in counts})
            else:
                parts = of_updates(axis, updates(folder, axis))
            for made in parts:
                if isinstance(made, Table):
                    table(f"{made.title}\n{machine()}", made.header, made.rows)
            again = f"python benchmarks/scale.py --only {axis}"
            chapters.append(Chapter(axis.capitalize(), [REASONS[axis], *parts, Code(again)]))
    print(write_page(
        options.directory / "page.html", title="How cost grows", about=ABOUT + machine() + ".",
        chapters=chapters, command="python benchmarks/scale.py",
    ))  # fmt: skip


def texts_of(folder: Path, words: int) -> Texts:
    """Each of so many words at least once, in texts of 100 words."""
    path = folder / f"{words}.csv"
    random = np.random.default_rng(1)
    every = np.concatenate([random.permutation(words), random.integers(0, words, 12_800)])
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for number, ids in enumerate(np.array_split(every, -(-len(every) // 100))):
            file.write(" ".join(f"w{i}" for i in ids) + (",yes\n" if number % 2 else ",no\n"))
    return Texts([
        "data=text_files", f"data.path={path}", f"task.text.vocabulary_size={words + 2}",
        "task.text.minimum_count=1", "prepare.validation=0.01", "prepare.test=0.01",
        "task.ngrams.order=0",
    ])  # fmt: skip


def updates(folder: Path, axis: str) -> Times:
    """Milliseconds of an update as one measure grows, the median of rounds."""
    sizes = SIZES[axis]
    systems = CELLS | {WHOLE: ["model=gru"]} if axis == "vocabulary" else CELLS
    found: Times = {name: {} for name in systems}
    texts = None
    for size in sizes:
        at = {**BASE, axis: size}
        if texts is None or axis == "vocabulary":
            texts = texts_of(folder, at["vocabulary"])
        calls = {}
        for name, overrides in systems.items():
            lazy = LazySettings(smallest_matrix=sys.maxsize) if name == WHOLE else LazySettings()
            calls[name] = update(texts, overrides, at, lazy)
        repeats = max(1, min(20, round(400 / size))) if axis == "length" else 2
        calls = {name: repeat(call, repeats) for name, call in calls.items()}
        for name, seconds in in_turns(calls, ROUNDS, title=f"{axis} {size:,}").items():
            found[name][size] = 1000 * statistics.median(seconds) / repeats
    return found


def repeat(call: Call, times: int) -> Call:
    def turn(number: int) -> None:
        for _ in range(times):
            call(number)

    return turn


def update(
    texts: Texts, overrides: Sequence[str], at: Mapping[str, int], lazy: LazySettings
) -> Call:
    """An update on one batch, after a first one."""
    config = configure([
        *texts.overrides, *overrides, f"model.width={at['width']}",
        f"model.layers={at['layers']}",
    ])  # fmt: skip
    learner = texts.learner(config, 10**6, lazy)
    random = np.random.default_rng(2)
    batch = texts.ours({
        "tokens": random.integers(2, texts.sizes["tokens"], (BATCH, at["length"]), np.int32),
        "tokens_length": np.full(BATCH, at["length"], np.int32),
        "label": random.integers(0, 2, BATCH, np.int32),
    })  # fmt: skip

    def call(_: int) -> None:
        learner.train_step([batch], 0)
        learner.mean_loss()

    call(0)
    return call


def of_updates(axis: str, found: Times) -> list[Any]:
    sizes = SIZES[axis]
    rows = [
        (f"{size:,}", *(f"{times[size]:.1f}" for times in found.values())) for size in sizes
    ]  # fmt: skip
    curves = {name: [times[size] for size in sizes] for name, times in found.items()}
    return [
        curve(f"An update by {UNITS[axis]}", UNITS[axis], "ms", sizes, curves),
        Table("Milliseconds of an update", (UNITS[axis], *found), rows, ""),
    ]


def curve(
    title: str, across: str, up: str, sizes: Sequence[int], curves: Mapping[str, Sequence[float]]
) -> Figure:
    """Both axes logarithmic: what grows in proportion rises by one to one."""

    def draw(axes: Any) -> None:
        for place, (name, values) in enumerate(curves.items()):
            axes.plot(sizes, values, marker="os^D"[place], color=SERIES[place], label=name)
        first = next(iter(curves.values()))
        ends = [sizes[0], sizes[-1]]
        even = [first[-1] * end / sizes[-1] for end in ends]
        axes.plot(ends, even, ":", color=SERIES[5], lw=1, label="in proportion")
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
        axes.minorticks_off()
        axes.set_yscale("log")
        axes.set_ylim(bottom=min(map(min, curves.values())) / 1.5)
        set_log_scale(axes)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.legend(fontsize=8)

    return Figure(title, draw, "Both axes are logarithmic.", size=(5.0, 3.3))


def run(folder: Path, rows: int) -> dict[str, float]:
    """Seconds and MB of a run on a file of so many rows, on its first and second start."""
    data, cache = folder / f"rows{rows}.csv", folder / f"cache{rows}"
    write_rows(data, rows)
    measured: dict[str, float] = {"megabytes": data.stat().st_size / 1e6}
    for start in ("first", "second"):
        directory = folder / f"run{rows}_{start}"
        watched = watch(command(data, cache, directory, ["export.saved_model=false"]), folder)
        metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
        measured[f"{start} prepare"] = metrics["seconds"]["prepare"]
        measured[f"{start} peak"], measured[f"{start} own"], _ = watched.peak()
        measured["tokens"] = metrics["throughput"]["train.tokens_per_second"]
    data.unlink()
    return measured


def of_rows(found: Mapping[int, Mapping[str, float]]) -> list[Any]:
    sizes = list(found)
    seconds = {
        f"{start} start": [max(found[size][f"{start} prepare"], 0.01) for size in sizes]
        for start in ("first", "second")
    }
    memory = {
        "peak": [found[size]["first peak"] for size in sizes],
        "its own": [found[size]["first own"] for size in sizes],
    }
    rows = [
        (
            f"{size:,}", f"{one['megabytes']:,.0f}", f"{one['first prepare']:.1f}",
            f"{one['second prepare']:.1f}", f"{one['first peak']:,.0f}",
            f"{one['first own']:,.0f}", f"{one['tokens']:,.0f}",
        )
        for size, one in found.items()
    ]  # fmt: skip
    header = ("rows", "MB of CSV", "prepare s", "again s", "peak MB", "own MB", "tokens/s")
    return [
        curve("Seconds to prepare", "rows", "s", sizes, seconds),
        curve("Memory", "rows", "MB", sizes, memory),
        Table("Whole runs of 300 updates", header, rows, "Own: without mapped files."),
    ]


ABOUT = (
    "One measure grows and the others stay: 64 texts of 100 words out of 20,000, one layer of 64 "
    "units. A dotted line rises in proportion. Measured on "
)
REASONS = {
    "vocabulary": "Looking words up costs the same whatever there is to look up. Adam and the "
    "moving average change every word's row in each update, which costs little up to some ten "
    "thousand words, and grows in proportion where these numbers no longer fit into the "
    "processor's cache; so rows wait for it until they are next looked up, and cost what the "
    "batch's words cost. Once in 512 updates all rows are brought up to date, which isn't counted "
    "here: at a million words that is a second.",
    "length": "Each word is a step of a loop forward and one back, so that from some fifty words "
    "on the cost grows in proportion. Below, it nears what an update costs without any: starting "
    "a few hundred operations.",
    "width": "Up to 64 units a step costs what starting its operations costs, and width is almost "
    "free. From there on a step's products of matrices count, which grow with the square "
    "of the width: twice the width comes to cost more than twice as much.",
    "layers": "Each layer adds its own loops. The first has company: embedding, pooling and the "
    "optimizer are paid once, so twice the layers cost less than twice as much.",
    "rows": "Preparing reads, counts, encodes and writes each row once, in proportion; a second "
    "start finds it done. Rows are mapped from disk, so that memory grows only by what is "
    "known of each: its length, its place in an epoch, a hash to find duplicates by. An "
    "update costs the same whatever the number of rows. ten_million_rows.py goes on from "
    "here.",
}

if __name__ == "__main__":
    main()
