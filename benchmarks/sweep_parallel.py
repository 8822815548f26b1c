"""Whether two runs at a time on two cores end sooner than one after the other.

    python benchmarks/sweep_parallel.py                    a grid of 4 runs, three rounds: 5 min
    python benchmarks/sweep_parallel.py --rounds 1 --set prepare.limit=600 train.epochs=2

A row a way: seconds from the first run's start to the last one's end, of the same grid on Rotten
Tomatoes, in turns. The data is prepared before. A ratio above 1 says that two at a time are sooner.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from measuring import in_turns, machine, ratio, run_main, table

TASK = ["experiment=rotten_tomatoes", "task.ngrams.order=0", "model=gru,lstm", "seed=1,2"]
QUICK = ["export.saved_model=false", "evaluate.diagnostics=false"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="settings of all runs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:

        def sweep(parallel: int, number: int) -> None:
            directory = Path(folder) / f"{parallel}-{number}"
            asked = [f"sweep.parallel={parallel}", f"hydra.sweep.dir={directory}"]
            run_main(["-m", *TASK, *QUICK, *given.set, *asked], title=f"{parallel} at a time")
            trials = json.loads((directory / "sweep.json").read_text(encoding="utf-8"))["trials"]
            if [trial["state"] for trial in trials] != ["COMPLETE"] * 4:
                raise ValueError(f"all four runs in {directory} must be complete")

        sweep(given.parallel, -1)  # prepares the data
        ways = {
            "one after the other": lambda number: sweep(1, number),
            f"{given.parallel} at a time": lambda number: sweep(given.parallel, number),
        }
        seconds = in_turns(ways, given.rounds, title="sweep")
    alone, together = seconds.values()
    table(
        f"Four runs · {machine()}",
        ("way", "seconds, the leaderboard with them", "one after the other / this"),
        [
            (name, " ".join(f"{value:.0f}" for value in values), f"{ratio(alone, values):.2f}")
            for name, values in seconds.items()
        ],
    )
    print(f"{given.parallel} at a time: {ratio(alone, together):.2f} times as fast")


if __name__ == "__main__":
    main()
