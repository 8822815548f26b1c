"""Answers to a million short texts from a file: rows a second, memory, and row by row to compare.

    python benchmarks/million_texts.py --run DIR             a run of task=sentiment; some minutes

Writes a file with a text of 4 to 20 words a line, has mode=predict answer it, and samples the
memory of its process. Before and after, the same SavedModel is asked in this process for a few
thousand of the same texts, a text a call, as a program would that hasn't thought of batches; the
ratio is of the mean of these two rates.

Targets: 20 times as many rows a second as row by row; the peak of each quarter of the time within
5% of the first quarter's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from measuring import ROOT, machine, progress, table
from ten_million_rows import Watched, watch, write_rows

ALONE = 2000
"""Texts that are asked a call each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="its SavedModel is asked")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="texts-") as name:
        folder = Path(name)
        texts, answers = folder / "texts.csv", folder / "answers.jsonl"
        write_rows(texts, options.rows)
        before = rows_a_second_alone(options.run, texts)
        ask = [f"run={Path(options.run).absolute()}", f"input={texts}", f"output={answers}"]
        watched = watch([sys.executable, str(ROOT / "main.py"), "mode=predict", *ask], folder)
        after = rows_a_second_alone(options.run, texts)
        with answers.open() as file:
            count = sum(1 for _ in file)
    if count != options.rows:
        raise ValueError(f"there must be {options.rows:,} answers; there are {count:,}")
    show(watched, options.rows, (before + after) / 2)


def rows_a_second_alone(run: str, texts: Path) -> float:
    import tensorflow as tf

    from pipelines.export.client import load

    progress("asking row by row")
    model = load(f"{run}/saved_model")
    answer = model.signatures["serving_default"]
    with texts.open() as file:
        rows = [line.rpartition(",")[0] for line in islice(file, 1, ALONE + 101)]
    for number, row in enumerate(rows):
        if number == 100:  # the first calls are slower
            begun = time.perf_counter()
        answer(text=tf.constant([row]))["probabilities"].numpy()
    return ALONE / (time.perf_counter() - begun)


def show(watched: Watched, rows: int, alone: float) -> None:
    first = watched.samples[0][0]
    whole = watched.seconds
    # The first quarter starts when the model answers.
    begun = next((at for at, line in watched.lines if line.startswith("predict")), whole / 4)
    quarters = [
        watched.peak(begun + (whole - begun) * k / 4, begun + (whole - begun) * (k + 1) / 4)[0]
        for k in range(4)
    ]
    rate = rows / whole
    table(
        f"{rows:,} short texts by mode=predict, from command to the finished file\n{machine()}",
        ["what", "value"],
        [
            ["seconds", f"{whole:.0f}"],
            ["rows a second", f"{rate:,.0f}"],
            ["rows a second, a text a call", f"{alone:,.0f}"],
            ["ratio", f"{rate / alone:.1f}"],
            ["peak MB, quarter by quarter", ", ".join(f"{peak:,.0f}" for peak in quarters)],
            ["MB when it started", f"{watched.peak(first, first)[0]:,.0f}"],
        ],
    )


if __name__ == "__main__":
    main()
