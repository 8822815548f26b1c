"""What several workers on this machine cost and gain, by one process with all cores.

    python benchmarks/workers.py                     IMDB, 2 workers, about five minutes
    python benchmarks/workers.py --workers 4 task=translation

Whole runs by the command line, in turns, of the same batches: milliseconds an update, without the
first third of the updates, in which graphs are made, and without evaluations. Ratio: those of one
process by those of the workers; above 1 the workers are faster. On CPUs of one machine
there is little to gain: one process' threads may use them all, and workers send each other all
gradients. On a busy machine two processes get more of it than one.
Validation losses must agree, without dropout.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from measuring import machine, ratio, run_main, table

STAGES = ["export.saved_model=false", "evaluate.diagnostics=false", "evaluate.resamples=100"]
PLAIN = ["task.embedding.dropout=0", "task.embedding.word_dropout=0", "train.tensorboard=false"]


def run(
    workers: int, overrides: list[str], updates: int, directory: Path, title: str
) -> tuple[float, float]:
    """Milliseconds an update, and the last validation loss."""
    third = updates // 3
    asked = [
        f"train.workers={workers}", f"train.max_steps={third * 3}", f"train.evaluate_every={third}",
        "train.patience=null", f"hydra.run.dir={directory}", *STAGES, *PLAIN, *overrides,
    ]  # fmt: skip
    run_main(asked, title=title)
    lines = (directory / "history.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    seconds = rows[-1]["seconds"] - rows[0]["seconds"]
    loss = rows[-1].get("validation.loss", rows[-1]["train.loss"])
    return 1000 * seconds / (rows[-1]["step"] - rows[0]["step"]), loss


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=150)
    arguments, overrides = parser.parse_known_args()
    counts = (1, arguments.workers)
    overrides = overrides or ["task.dropout=0", "prepare.limit=6000"]
    measured: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for count in counts if number % 2 == 0 else reversed(counts):
                title = f"round {number + 1} of {arguments.rounds}: {count} workers"
                directory = Path(folder) / f"{number}_{count}"
                measured[count].append(run(count, overrides, arguments.updates, directory, title))
    times = {count: [ms for ms, _ in found] for count, found in measured.items()}
    rows = [
        (count, f"{min(ms):.1f}", f"{ratio(times[1], ms):.2f}", f"{measured[count][0][1]:.6f}")
        for count, ms in times.items()
    ]
    header = ("workers", "ms an update (best)", "one / these", "validation loss")
    table(f"Workers on one machine: {' '.join(overrides)}", header, rows)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
