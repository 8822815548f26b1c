"""Damages every file that the program reads, in every way, for as long as you like.

    python tests/fuzz --inputs 100000          some hours; a table of readers and kinds of damage
    python tests/fuzz --inputs 2000 --readers codec
    python tests/fuzz --readers "image: PNG" --repeat fuzz_found/FILE

What didn't hold is saved in --save, and the exit code is 1. The same seed makes the same inputs.
The readers run in a process of their own, which is started again when an input ends it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
sys.path[1:1] = [str(ROOT), str(ROOT / "tests" / "support")]

ROUND = 100
"""Inputs of one kind, to a reader that is quick, before the next kind has its turn."""

SILENCE = 600
"""Seconds without a word after which a process has hung where Python can't interrupt it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="ends after them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--readers", default="", help="only those whose names hold this text")
    parser.add_argument("--run", type=Path, help="a finished run to read, in place of a new one")
    parser.add_argument("--save", type=Path, default=Path("fuzz_found"))
    parser.add_argument("--repeat", type=Path, help="a saved input, to be read once more")
    parser.add_argument("--worker", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(*arguments.worker, arguments.readers, arguments.save)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = arguments.run or make_run(folder)
        if arguments.repeat:
            return repeat(run, folder, arguments.readers, arguments.repeat)
        return Fuzzing(arguments, run, folder).fuzz()


def make_run(folder: Path) -> Path:
    """A finished run, as small as can be, of made-up texts."""
    words = ["fine", "great", "dull", "weak", "film", "plot", "the", "a"]
    random_ = random.Random(1)
    data = folder / "reviews.csv"
    with data.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(120):
            text = " ".join(random_.choices(words, k=5))
            writer.writerow([f"{text} {number}", ("good", "bad")[number % 2]])
    run = folder / "run"
    settings = [
        "data=text_files", f"data.path={data}", f"hydra.run.dir={run}", "model.width=6",
        "task.embedding.width=5", "task.text.minimum_count=1", "train.epochs=1",
        "evaluate.resamples=100", "evaluate.diagnostics=false", "export.verify=0",
        f"prepare.cache_dir={folder / 'cache'}", "prepare.validation=0.2", "prepare.test=0.2",
    ]  # fmt: skip
    print("making a run to read", flush=True)
    subprocess.run([sys.executable, str(ROOT / "main.py"), *settings], check=True)
    return run


# The process that reads


def work(run: Path, folder: Path, names: str, save: Path) -> None:
    """Tells its cells, and then answers each task from standard input, all in JSON lines."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from damage import kinds_for
    from judging import RESULT, NotHeldError, bounded, judge, try_inputs
    from readers import all_readers, others

    readers = all_readers(run, folder)
    other = list(others(readers).values())
    cells = []
    for reader in readers:
        whole = reader.path.read_bytes()
        if names in reader.name:
            if (outcome := judge(reader, whole)) != RESULT:
                raise SystemExit(f"{reader.name}: a valid file gives {outcome}, not {RESULT}")
            kinds = kinds_for(whole, reader.format, other)
            cells += [(reader, kind, whole, contents) for kind, contents in kinds.items()]
    table = [(reader.name, kind, reader.cost, str(reader.path)) for reader, kind, _, _ in cells]
    print(json.dumps(table), file=answers)
    with bounded():
        for line in sys.stdin:
            number, count, first = json.loads(line)
            reader, kind, whole, contents = cells[number]
            outcomes: Counter[str] = Counter()
            told = [time.monotonic()]

            def use(content: bytes) -> None:
                try:
                    outcomes[judge(reader, content)] += 1  # noqa: B023 - used before the next
                except NotHeldError as problem:
                    outcomes["not held"] += 1  # noqa: B023
                    file = keep(save, reader.name, kind, content)  # noqa: B023
                    print(json.dumps({"problem": str(problem), "file": file}), file=answers)
                if time.monotonic() > told[0] + 2:  # noqa: B023
                    told[0] = time.monotonic()  # noqa: B023
                    print(json.dumps({"tried": outcomes.total()}), file=answers)  # noqa: B023

            try_inputs(contents, count, first, use)
            reader.path.write_bytes(whole)
            print(json.dumps({"outcomes": outcomes}), file=answers)


def keep(save: Path, reader: str, kind: str, content: bytes) -> str:
    save.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"\W+", "_", f"{reader}-{kind}")
    path = save / f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}"
    path.write_bytes(content)
    return str(path)


def repeat(run: Path, folder: Path, name: str, path: Path) -> int:
    from judging import bounded, judge
    from readers import all_readers

    (reader,) = (r for r in all_readers(run, folder / "readers") if r.name == name)
    with bounded():
        print(judge(reader, path.read_bytes()))
    return 0


# The process that keeps count


class Fuzzing:
    """Gives tasks to a process that reads, and counts what becomes of them."""

    def __init__(self, arguments: argparse.Namespace, run: Path, folder: Path):
        self.arguments, self.run, self.folder = arguments, run, folder
        self.counts: dict[tuple[str, str], Counter[str]] = {}
        self.problems: dict[str, list[str]] = {}
        self.started, self.processes = time.monotonic(), 0
        self.log = folder / "log"
        self.shown = 0.0

    def fuzz(self) -> int:
        self._start()
        random_ = random.Random(self.arguments.seed)
        empty = 0
        end = self.started + 60 * self.arguments.minutes
        while (left := self.arguments.inputs - self._total()) > 0 and empty < len(self.cells):
            if time.monotonic() > end:
                break
            order = list(range(len(self.cells)))
            random_.shuffle(order)
            for number in order:
                cost = self.cells[number][2]
                if random_.random() * cost > ROUND:
                    continue  # a single input is its share of several rounds
                count = min(max(1, ROUND // cost), left)
                tried = self._do(number, count, random_.randrange(2**32))
                empty = 0 if tried else empty + 1
                left = self.arguments.inputs - self._total()
                if left <= 0 or time.monotonic() > end:
                    break
        self.process.kill()
        self.process.wait()
        print()
        print(self._table())
        for problem, files in self.problems.items():
            print(f"{len(files)} times: {problem}\n    {files[0]}")
        return 1 if self.problems else 0

    def _start(self) -> None:
        self.processes += 1
        folder = self.folder / f"readers{self.processes}"
        command = [sys.executable, __file__, "--readers", self.arguments.readers]
        command += ["--save", str(self.arguments.save), "--worker", str(self.run), str(folder)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
            env=environment,
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        reading = threading.Thread(target=_read, args=(self.process.stdout, self._lines))
        reading.daemon = True
        reading.start()
        table = next(self._answers(), None)
        if table is None:
            raise SystemExit(f"{self.log.read_text()}the process that reads did not start")
        self.cells: list[tuple[str, str, int, str]] = [tuple(cell) for cell in table]

    def _answers(self) -> Iterator[Any]:
        """What the process says, until it ends or has said nothing for long."""
        try:
            while line := self._lines.get(timeout=SILENCE):
                yield json.loads(line)
        except queue.Empty:
            self.process.kill()

    def _do(self, number: int, count: int, seed: int) -> int:
        """Has inputs tried; returns how many there were."""
        reader, kind, _, path = self.cells[number]
        counts = self.counts.setdefault((reader, kind), Counter())
        assert self.process.stdin is not None
        self.process.stdin.write(f"{json.dumps([number, count, seed])}\n".encode())
        self.process.stdin.flush()
        tried = 0
        for answer in self._answers():
            if "outcomes" in answer:
                counts.update(answer["outcomes"])
                self._show(reader, kind, 0)
                return sum(answer["outcomes"].values())
            if "problem" in answer:
                self._add_problem(f"{reader}, {kind}: {answer['problem']}", answer["file"])
            else:
                tried = answer["tried"]
                self._show(reader, kind, tried)
        code = self.process.wait()
        file = keep(self.arguments.save, reader, kind, Path(path).read_bytes())
        counts.update({"not held": 1, "told": tried})
        self._add_problem(f"{reader}, {kind}: the process ended with {code}", file)
        self.log.replace(f"{file}.log")
        shutil.rmtree(self.folder / f"readers{self.processes}", ignore_errors=True)
        self._start()
        return tried + 1

    def _add_problem(self, problem: str, file: str) -> None:
        files = self.problems.setdefault(problem, [])
        if not files:
            print(f"\r\033[KNOT HELD  {problem}\n    {file}", flush=True)
        else:
            Path(file).unlink(missing_ok=True)
        files.append(file)

    def _total(self) -> int:
        return sum(counts.total() for counts in self.counts.values())

    def _show(self, reader: str, kind: str, more: int) -> None:
        total = self._total() + more
        rate = total / (time.monotonic() - self.started)
        line = (
            f"{total:,} of {self.arguments.inputs:,} inputs, {rate:.0f} a second: {reader}, {kind}"
        )
        if sys.stdout.isatty():
            print(f"\r\033[K{line}", end="", flush=True)
        elif time.monotonic() > self.shown + 30:
            self.shown = time.monotonic()
            print(line, flush=True)

    def _table(self) -> str:
        """Readers by kinds: inputs tried, and in brackets those that weren't held against."""
        kinds = list(dict.fromkeys(kind for _, kind, _, _ in self.cells))
        rows = [["reader", *kinds, "all", "told", "not held"]]
        for reader in dict.fromkeys(reader for reader, *_ in self.cells):
            own = [self.counts.get((reader, kind), Counter()) for kind in kinds]
            every = sum(own, Counter())
            cells = [
                f"{c.total():,}" + (f" ({c['not held']})" if c["not held"] else "") if c else "–"
                for c in own
            ]
            rows.append(
                [reader, *cells, f"{every.total():,}", f"{every['told']:,}", str(every["not held"])]
            )
        all_ = sum(self.counts.values(), Counter())
        rows.append(
            [
                "all",
                *("" for _ in kinds),
                f"{all_.total():,}",
                f"{all_['told']:,}",
                str(all_["not held"]),
            ]
        )
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + " --- |" * len(rows[0]))
        return "\n".join(lines)


def _read(file: IO[bytes], lines: queue.Queue[bytes]) -> None:
    """Puts the lines of a process into a queue, and an empty one when it has ended."""
    for line in file:
        lines.put(line)
    lines.put(b"")


if __name__ == "__main__":
    sys.exit(main())
