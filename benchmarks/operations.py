"""Where the time of an update goes: by part and by kind of operation, for cells, tasks and lengths.

    python benchmarks/operations.py                       about five minutes
    python benchmarks/operations.py task=translation model=lstm        one configuration of main.py

A dozen updates on batches of the pipeline run under TensorFlow's profiler; classifiers are those of
training.py. Time is what a thread spends in an operation itself, so with several threads it adds
up to more than the update takes. Loops are the recurrences, and a decoder's steps.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import machine, progress, table
from texts import Texts, our_turns
from training import texts_of

from pipelines.distributed.tensorflow import import_tensorflow

UPDATES = 12
LENGTHS, CELLS = (20, 100, 400), ("simple_rnn", "lstm", "gru")
TASKS = ("translation", "captioning")

OUTSIDE = {
    "convolutions": ("Conv2D", "DepthwiseConv2d"),
    "products outside": ("MatMul", "BatchMatMul"),
    "optimizer, averages": ("ResourceApply", "Assign"),
    "embedding": ("ResourceGather", "UnsortedSegmentSum", "ResourceScatter"),
}
"""Parts of an update outside of loops, by how the kinds' names begin."""

PARTS = ("products in loops", "the rest of loops", *OUTSIDE, "all else")

Spent = Counter[tuple[str, str]]
"""Seconds of threads, by part and kind of operation."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("overrides", nargs="*", help="of main.py; without any, a choice of ours")
    parser.add_argument("--kinds", type=int, default=6, help="kinds shown: %(default)s")
    options = parser.parse_args()
    import_tensorflow()
    rows, kinds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, texts, cell in systems(Path(folder), options.overrides):
            progress(name)
            wall, spent = profile_step(texts, cell)
            whole = spent.total()
            by_part: Counter[str] = Counter()
            for (part, _), seconds in spent.items():
                by_part[part] += seconds
            shares = (f"{by_part[part] / whole:.0%}" for part in PARTS)
            rows.append((name, f"{1000 * wall:.1f}", f"{1000 * whole:.1f}", *shares))
            first = spent.most_common(options.kinds)
            kinds.append((name, *(f"{k} ({p}) {s / whole:.0%}" for (p, k), s in first)))
    header = ("update", "ms", "ms of threads", *PARTS)
    table(f"Where the time of an update goes\n{machine()}", header, rows)
    numbers = map(str, range(1, options.kinds + 1))
    table("Kinds of operations that take most", ("update", *numbers), kinds)


def systems(folder: Path, overrides: list[str]) -> Iterator[tuple[str, Texts, str]]:
    """A name, prepared data and a model."""
    if overrides:
        texts = Texts(overrides)
        cell = texts.config.model
        directions = "bi_" if cell.bidirectional else ""
        yield " ".join(overrides), texts, directions + cell.cell
        return
    for task in TASKS:
        yield f"{task}, gru", Texts([f"task={task}"]), "gru"
    os.environ["RECURRENT_CACHE"] = str(folder / "cache")
    for length in LENGTHS:
        texts = texts_of(folder, length)
        for cell in CELLS:
            yield f"{length} words, {cell}", texts, cell


def profile_step(texts: Texts, cell: str) -> tuple[float, Spent]:
    """Seconds of an update, and what threads spent in one."""
    import tensorflow as tf

    turn = our_turns(texts, cell, texts.plan(0), UPDATES)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        begun = time.perf_counter()
        turn(1)
        wall = time.perf_counter() - begun
        tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        spent = own_times(file)
    return wall / UPDATES, Counter({key: value / UPDATES for key, value in spent.items()})


def own_times(file: Path) -> Spent:
    """Seconds in each operation without those in what it called, of all threads."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(file.read_bytes())
    spent: Spent = Counter()
    for plane in space.planes:
        if plane.name != "/host:CPU":
            continue
        names = {number: data.name for number, data in plane.event_metadata.items()}
        for line in plane.lines:
            events = sorted(line.events, key=lambda event: (event.offset_ps, -event.duration_ps))
            inside: list[tuple[int, Any]] = []
            for event in events:
                while inside and inside[-1][0] <= event.offset_ps:
                    inside.pop()
                key = part_of(names[event.metadata_id])
                if inside and inside[-1][1] is not None:
                    spent[inside[-1][1]] -= event.duration_ps / 1e12
                if key is not None:
                    spent[key] += event.duration_ps / 1e12
                inside.append((event.offset_ps + event.duration_ps, key))
    return spent


def part_of(event: str) -> tuple[str, str] | None:
    """The part and kind of an operation, named as scope/name:Kind; None if it is something else."""
    name, _, kind = event.rpartition(":")
    if not name or "::" in event or not kind.lstrip("_").isalnum():
        return None
    for rewritten in ("_", "Mkl", "Native", "Fused"):  # by TensorFlow, for the processor
        kind = kind.removeprefix(rewritten)
    if "while" in name:
        product = kind.startswith(OUTSIDE["products outside"])
        return ("products in loops" if product else "the rest of loops"), kind
    for part, kinds in OUTSIDE.items():
        if kind.startswith(kinds):
            return part, kind
    return "all else", kind


if __name__ == "__main__":
    main()
