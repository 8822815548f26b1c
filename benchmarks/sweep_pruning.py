"""What a search with pruning buys, against random runs that all go to the end.

    python benchmarks/sweep_pruning.py                     30 trials each, three repeats: 50 min
    python benchmarks/sweep_pruning.py --trials 4 --repeats 1 --set prepare.limit=600 train.epochs=2

A row a way and repeat: the best area under the ROC curve on validation and the seconds of all
trials, on Rotten Tomatoes. The ways take turns, the order rotating. All draw from the same space,
conf/sweep/rotten_tomatoes.yaml, and each repeat has a seed of its own. The search begins, as all
searches do, with the settings as they are, which are good ones; so there is one that doesn't. The
random runs are all random.
Below: what part of the random runs' time all of the search takes, in trials and by the clock, and
after what part of their time, in trials and by the clock, it is better than the best of them and
than what it began with. Memory is the sweep's own, and with its run and the server that starts
them, which share some, at the first and the last trial.
Sweeps lie in --output and are not run again: delete it after a change of the code.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from measuring import ROOT, machine, run_main, table

RANDOM = "random without"

WAYS = {
    "search with pruning": [],
    "search from random": ["sweep.start_from=random"],
    RANDOM: ["sweep.sampler=random", "sweep.pruner=none", "sweep.start_from=random"],
}

TASK = ["experiment=rotten_tomatoes", "task.ngrams.order=0", "sweep=rotten_tomatoes"]


class Watch:
    """By the number of trials done: memory in MB, and seconds from the start until it was so many.

    own      of the sweep itself.
    largest  of all of its processes together.
    """

    def __init__(self, summary: Path):
        self.summary = summary
        self.own: dict[int, float] = {}
        self.largest: dict[int, float] = {}
        self.until: dict[int, float] = {}

    def seconds_until(self, done: int, wall: float) -> float:
        """`wall` for the last trial, which ends between two looks."""
        return min(
            (seconds for number, seconds in self.until.items() if number >= done), default=wall
        )

    def start(self, process: subprocess.Popen[str]) -> None:
        watched = psutil.Process(process.pid)
        self.begun = time.monotonic()
        threading.Thread(target=self._watch, args=[watched], daemon=True).start()

    def _watch(self, process: psutil.Process) -> None:
        while True:
            try:
                own = process.memory_info().rss / 1e6
                family = process.children(recursive=True)
                total = own + sum(one.memory_info().rss for one in family) / 1e6
            except psutil.NoSuchProcess:
                if not process.is_running():
                    return
                continue
            done = trials_done(self.summary)
            self.until.setdefault(done, time.monotonic() - self.begun)
            self.own[done] = own
            self.largest[done] = max(total, self.largest.get(done, 0.0))
            time.sleep(0.5)


def trials_done(summary: Path) -> int:
    try:
        trials = json.loads(summary.read_text(encoding="utf-8"))["trials"]
    except (OSError, ValueError):
        return 0
    return sum(trial["state"] not in ("RUNNING", "WAITING") for trial in trials)


def run_sweep(way: str, repeat: int, given: argparse.Namespace) -> dict[str, Any]:
    """A sweep in processes of its own; what is kept of it. ValueError if it fails."""
    folder = given.output.resolve() / f"{way.replace(' ', '_')}-{repeat}"
    kept = folder / "measured.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    asked = [
        "-m", *TASK, *WAYS[way], *given.set, f"sweep.trials={given.trials}", f"seed={repeat}",
        f"hydra.sweep.dir={folder}",
    ]  # fmt: skip
    watch = Watch(folder / "sweep.json")
    begun = time.monotonic()
    run_main(asked, title=f"{way}, repeat {repeat} of {given.repeats}", started=watch.start)
    wall = time.monotonic() - begun
    trials = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["trials"]
    complete = [trial for trial in trials if trial["state"] == "COMPLETE"]
    measured = {
        "way": way,
        "repeat": repeat,
        "best": max(trial["values"][0] for trial in complete),
        "seconds": sum(trial["seconds"] for trial in trials),
        "wall": wall,
        "trials": [
            [trial["seconds"], *(trial["values"] if trial["state"] == "COMPLETE" else [])]
            for trial in trials
        ],
        "until": [watch.seconds_until(done, wall) for done in range(1, len(trials) + 1)],
        "complete": len(complete),
        "pruned": sum(trial["state"] == "PRUNED" for trial in trials),
        "own": [watch.own.get(1, 0.0), watch.own.get(given.trials - 1, 0.0)],
        "largest": [watch.largest.get(0, 0.0), watch.largest.get(given.trials - 1, 0.0)],
    }
    kept.write_text(json.dumps(measured), encoding="utf-8")
    return measured


def trials_until(measured: dict[str, Any], value: float) -> int | None:
    """Trials until one was better than the value; None if none was."""
    reached = (one[1] if len(one) > 1 else None for one in measured["trials"])
    return next((done for done, one in enumerate(reached, 1) if one and one > value), None)


def compare_searches(search: dict[str, Any], other: dict[str, Any]) -> str:
    """What the search costs and brings, by what the random runs do."""
    ratio, wall = (search[name] / other[name] for name in ("seconds", "wall"))
    begun = search["trials"][0][1:]  # its value, if it has any
    text = (
        f"{ratio:.2f} of the time in trials, {wall:.2f} of all of it, "
        f"{search['best'] - other['best']:+.4f} area"
    )
    done = trials_until(search, max([other["best"], *begun]))
    if done is not None:
        spent = sum(one[0] for one in search["trials"][:done]) / other["seconds"]
        by_clock = search["until"][done - 1] / other["wall"]
        text += (
            f"; better than those and than what it began with after {done} trials, "
            f"{spent:.2f} of the time in trials, {by_clock:.2f} of all of it"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], help="settings of all runs")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "sweep_pruning")
    given = parser.parse_args()
    rows = []
    for repeat in range(1, given.repeats + 1):
        first = repeat % len(WAYS)
        for way in [*list(WAYS)[first:], *list(WAYS)[:first]]:
            rows.append(run_sweep(way, repeat, given))
    rows.sort(key=lambda row: (row["repeat"], row["way"]))
    table(
        f"Pruning, {given.trials} trials each · {machine()}",
        ("way", "repeat", "best area", "seconds in trials", "complete", "pruned",
         "sweep's own MB, first and last", "with its processes, first and last"),
        [
            (
                row["way"], row["repeat"], f"{row['best']:.4f}", f"{row['seconds']:.0f}",
                row["complete"], row["pruned"],
                " and ".join(f"{value:.0f}" for value in row["own"]),
                " and ".join(f"{value:.0f}" for value in row["largest"]),
            )
            for row in rows
        ],
    )  # fmt: skip
    for row in rows:
        other = next(one for one in rows if one["way"] == RANDOM and one["repeat"] == row["repeat"])
        if row is not other:
            print(f"repeat {row['repeat']}, {row['way']}: {compare_searches(row, other)}")


if __name__ == "__main__":
    main()
