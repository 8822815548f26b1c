"""How well the project's main configurations do, over seeds, against their baselines.

    python benchmarks/quality.py                           all, three seeds: some hours
    python benchmarks/quality.py --only default,lstm --seeds 1
    python benchmarks/quality.py --show                    the table of what there is

A row a configuration: test accuracy of each seed with its 95% bootstrap interval, mean and standard
deviation over seeds, the best of the naive baselines, seconds from start to report. All seeds of a
configuration share one division of the data. Every run is a process of its own, with all stages; it
adds a JSON line to --output, and what is there already is not run again: delete the file, or name
another, after a change of the code. Expected accuracies stand in the README's results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import ROOT, machine, run_main, table

SEEDS = "1,2,3"
CELLS = ("simple_rnn", "lstm", "gru", "bi_simple_rnn", "bi_lstm", "bi_gru")

CONFIGURATIONS: dict[str, list[str]] = {
    "default": [],
    "imdb_best": ["experiment=imdb_best"],
    "imdb_glove": ["experiment=imdb_glove"],
    "rotten_tomatoes": ["experiment=rotten_tomatoes"],
    "rotten_tomatoes_glove": ["experiment=rotten_tomatoes_glove"],
    **{cell: [f"model={cell}", "task.ngrams.order=0"] for cell in CELLS},
}
"""Name: overrides. Cells are compared without the n-grams, which are the same for all of them."""

Record = dict[str, Any]


def run_once(name: str, overrides: list[str], seed: int, folder: Path) -> Record:
    """A run in a process of its own; what is kept of it. ValueError if it fails."""
    directory = folder / f"{name}-{seed}"
    given = [*overrides, f"seed={seed}"]
    begun = time.monotonic()
    run_main([*given, f"hydra.run.dir={directory}"], title=f"{name}, seed {seed}")
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    baselines = metrics["baselines"].get("test", {})
    return {
        "name": name,
        "overrides": overrides,
        "seed": seed,
        "commit": commit(),
        "accuracy": {key: metrics["test"]["accuracy"][key] for key in ("value", "low", "high")},
        "baselines": {
            one["label"]: one["scores"]["accuracy"]["value"] for one in baselines.values()
        },
        "verdict": metrics["verdict"],
        "seconds": {**metrics["seconds"], "process": round(time.monotonic() - begun, 1)},
        "epochs": metrics["epochs"],
        "parameters": metrics["parameters"]["total"],
        "memory": metrics["memory"],
        "versions": metrics["versions"],
        "machine": metrics["machine"],
    }


def commit() -> str:
    """The checkout's commit, with a plus if files differ from it; empty where there is no git."""
    done = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--dirty=+"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip()


def read(path: Path) -> list[Record]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def find(records: list[Record], name: str, overrides: list[str], seed: int) -> Record | None:
    """The last record of just this run."""
    wanted = (name, overrides, seed)
    same = [r for r in records if (r["name"], r["overrides"], r["seed"]) == wanted]
    return same[-1] if same else None


def row(name: str, overrides: list[str], records: list[Record]) -> list[str]:
    scores = [record["accuracy"] for record in records]
    values = [score["value"] for score in scores]
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    each = [f"{s['value']:.4f} ({s['low']:.3f} to {s['high']:.3f})" for s in scores]
    baselines = records[0]["baselines"]
    best = max(baselines, key=lambda key: baselines[key], default=None)
    total = statistics.mean(record["seconds"]["total"] for record in records)
    return [
        name,
        " ".join(overrides) or "(none)",
        f"{statistics.mean(values):.4f}{spread}",
        "; ".join(each),
        f"{baselines[best]:.4f} {best}" if best else "–",
        f"{total:.0f}",
    ]


def show(names: list[str], extra: list[str], seeds: list[int], path: Path) -> None:
    """Prints the table of the runs that there are."""
    records, rows = read(path), []
    for name in names:
        overrides = [*CONFIGURATIONS[name], *extra]
        found = [record for seed in seeds if (record := find(records, name, overrides, seed))]
        if found:
            rows.append(row(name, overrides, found))
    commits = sorted({record["commit"] or "unknown" for record in records})
    header = ["name", "overrides", "accuracy, mean ± SD", "each seed (95% interval)"]
    made = f"seeds {', '.join(map(str, seeds))}; commits {', '.join(commits)}"
    table(
        f"Test accuracy, {made}\n{machine()}",
        [*header, "best baseline", "seconds"],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(CONFIGURATIONS), help="some of %(default)s")
    parser.add_argument("--seeds", default=SEEDS, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "quality.jsonl")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("overrides", nargs="*", help="added to each, such as prepare.limit=500")
    options = parser.parse_args()
    names, seeds = options.only.split(","), [int(seed) for seed in options.seeds.split(",")]
    unknown = [name for name in names if name not in CONFIGURATIONS]
    if unknown:
        parser.error(f"no such configuration: {unknown[0]}; choices: {', '.join(CONFIGURATIONS)}")
    failed = []
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="quality-") as folder:
        for seed in [] if options.show else seeds:
            for name in names:
                overrides = [*CONFIGURATIONS[name], *options.overrides]
                if find(read(options.output), name, overrides, seed):
                    continue
                try:
                    record = run_once(name, overrides, seed, Path(folder))
                except ValueError as error:
                    failed.append(f"{name}, seed {seed}: {error}")
                    continue
                with options.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
    show(names, options.overrides, seeds, options.output)
    if failed:
        sys.exit("\n\nFailed: ".join(["", *failed]))


if __name__ == "__main__":
    main()
