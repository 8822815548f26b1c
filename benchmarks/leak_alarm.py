"""What the leak alarm says of six data sets, and its share of the time that prepare takes.

    python benchmarks/leak_alarm.py                          some two minutes, 300 MB of disk
    python benchmarks/leak_alarm.py --rows 100000            a smaller large file

IMDB divided by `hash` and as it is by itself; Rotten Tomatoes; a file of 4,000 texts with a column
of users, ten texts each; a file in which a token gives one label away; and a file of a million
short texts. Every preparation starts from nothing.

Target: at most 5% of the time for the million rows; a sentence on IMDB by hash, on the users and on
the token; none on Rotten Tomatoes.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import ROOT, machine, progress, table
from ten_million_rows import write_rows

from pipelines.config.hydra_hooks import register_resolvers
from pipelines.config.restore import resolve_config
from pipelines.config.schema import parse
from pipelines.data import leaks, unused_columns
from pipelines.data.prepare import prepare

ROWS, USERS = 4_000, 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large file")
    options = parser.parse_args()
    register_resolvers()
    with tempfile.TemporaryDirectory(prefix="leaks-") as name:
        folder = Path(name)
        write_users(folder / "users.csv")
        write_given_away(folder / "given-away.csv")
        write_rows(folder / "large.csv", options.rows)
        files = {
            "users": ["data=text_files", f"data.path={folder / 'users.csv'}"],
            "a label given away": ["data=text_files", f"data.path={folder / 'given-away.csv'}"],
            f"{options.rows:,} rows": ["data=text_files", f"data.path={folder / 'large.csv'}"],
        }
        cases = {
            "IMDB by hash": ["prepare.division=hash"],
            "IMDB": [],
            "Rotten Tomatoes": ["data=rotten_tomatoes"],
            **files,
        }
        rows = [measure(name, overrides, folder / "cache") for name, overrides in cases.items()]
    header = ["data", "prepare, s", "the alarm, s", "share", "what it says"]
    table(f"The leak alarm\n{machine()}", header, rows)


def measure(name: str, overrides: list[str], cache: Path) -> list[str]:
    """A preparation in this process: its seconds, those of the alarm, and its sentences."""
    from hydra import compose, initialize_config_dir

    progress(f"preparing {name}")
    given = [*overrides, f"prepare.cache_dir={cache}", "task.ngrams.order=0"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = parse(resolve_config(compose("config", given), given))
    spent: list[float] = []
    originals = leaks.find_leaks, unused_columns.find_unused_columns
    leaks.find_leaks = timed(originals[0], spent)
    unused_columns.find_unused_columns = timed(originals[1], spent)
    try:
        begun = time.perf_counter()
        prepared = prepare(config.data, config.task, config.prepare)
        seconds = time.perf_counter() - begun
    finally:
        leaks.find_leaks, unused_columns.find_unused_columns = originals
    said = " ".join(leak["sentence"] for leak in prepared.report["leaks"]) or "(nothing)"
    alarm = sum(spent)
    return [name, f"{seconds:.1f}", f"{alarm:.2f}", f"{alarm / seconds:.1%}", said]


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        begun = time.perf_counter()
        found = function(*arguments)
        spent.append(time.perf_counter() - begun)
        return found

    return run


def write_users(path: Path) -> None:
    """Ten texts a user, in any order; text, label and the user's name."""
    random = np.random.default_rng(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "user"])
        for number in random.permutation(ROWS):
            words = " ".join(f"w{n}" for n in random.integers(0, 900, 12))
            writer.writerow([words, random.choice(["good", "bad"]), f"user{number % USERS}"])


def write_given_away(path: Path) -> None:
    """Texts of which those of one label end with a mark."""
    random = np.random.default_rng(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for _ in range(ROWS):
            words = " ".join(f"w{n}" for n in random.integers(0, 900, random.integers(5, 15)))
            label = random.choice(["good", "bad"])
            writer.writerow([f"{words} #spam" if label == "bad" else words, label])


if __name__ == "__main__":
    main()
