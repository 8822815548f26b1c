"""Fixtures: a cache of the tests' own, small data, and settings that train in seconds."""

from __future__ import annotations

import csv
import fcntl
import io
import logging
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hydra._internal.hydra import Hydra

from pipelines.config.hydra_hooks import register_resolvers
from pipelines.core.paths import ROOT

pytest_plugins = ["served_run", "skips", "sweep_process"]

for helpers in (Path(__file__).parent / "support").glob("*.py"):
    pytest.register_assert_rewrite(helpers.stem)


QUICK = [
    "model.width=6",
    "task.embedding.width=5",
    "task.text.minimum_count=1",
    "task.text.max_tokens=12",
    "train.batch_examples=16",
    "train.epochs=2",
    "train.patience=null",
    "evaluate.resamples=100",
    "export.verify=0",
    "prepare.validation=0.2",
    "prepare.test=0.2",
]
"""Overrides for a run of a few seconds."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


ROOMS_OF_WHOLE_RUNS = ("tasks", "sweep", "end_to_end", "serve", "export")
"""Folders whose modules take minutes, longest first: begun late, one would run on alone."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    place = {room: number for number, room in enumerate(ROOMS_OF_WHOLE_RUNS)}
    items.sort(key=lambda item: place.get(item.path.parent.name, len(place)))
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session", autouse=True)
def resolvers() -> None:
    """What conf/ computes is known, as main.py makes it known."""
    register_resolvers()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test sees, or leaves anything in, the user's cache."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECURRENT_CACHE", str(cache))
        yield cache


@pytest.fixture(autouse=True)
def disable_determinism() -> Iterator[None]:
    """A run with train.deterministic=true must not change the bits of what comes after it.

    TensorFlow offers no way back: a process trains one model.
    """
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework import config

        config.disable_op_determinism()


GOOD = ["great", "lovely", "superb", "moving", "funny", "brilliant"]
BAD = ["awful", "boring", "dull", "terrible", "weak", "clumsy"]
PLAIN = ["the", "film", "was", "a", "story", "of", "people", "in", "town", "and", "its", "music"]


def review(label: str, rng: random.Random) -> str:
    """A few plain words and one or two that give the label away."""
    words = rng.choices(PLAIN, k=rng.randint(2, 9))
    words += rng.choices(GOOD if label == "positive" else BAD, k=rng.randint(1, 2))
    rng.shuffle(words)
    return " ".join(words)


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 200 made-up reviews, half of them positive, that a small model can learn."""
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    rng = random.Random(3)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(200):
            label = ("negative", "positive")[number % 2]
            writer.writerow([f"{review(label, rng)} {number}", label])
    return path


WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
ZAHLEN = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht"]


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """90 sentences of numbers and their translations, as data.* overrides."""
    rng = random.Random(0)
    chosen = [rng.choices(range(8), k=rng.randint(1, 5)) for _ in range(90)]
    folder = tmp_path_factory.mktemp("pairs")
    for name, words in (("source", WORDS), ("target", ZAHLEN)):
        lines = [" ".join(words[i] for i in one) + " ." for one in chosen]
        (folder / name).write_text("\n".join(lines) + "\n")
    return [f"data.{name}={folder / name}" for name in ("source", "target")]


CommandResult = subprocess.CompletedProcess[str]
Command = Callable[..., CommandResult]


def assert_refused(result: CommandResult, message: str, folder: Path) -> None:
    """The command ended with one line that has `message` in it, and has written nothing."""
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(folder.iterdir())


def main_alone(*arguments: str, folder: Path, stdin: str = "", **environment: str) -> CommandResult:
    """main.py in a process of its own, started in the folder."""
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=folder,
        env={**os.environ, **environment},
        timeout=300,
    )


def main_here(*arguments: str, folder: Path, stdin: str = "", **environment: str) -> CommandResult:
    """main.py in this process, which has imported all that is slow to import.

    Several seconds quicker than `main_alone`, and otherwise the same from the command line to the
    exit code; a traceback is raised.
    """
    with _streams(stdin) as (output, error), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("HYDRA_FULL_ERROR", "1")  # main.py sets it, and here it would stay
        patch.setattr(Hydra, "get_mode", Hydra.get_mode)  # as well
        patch.setattr(sys, "argv", [str(ROOT / "main.py"), *arguments])
        patch.chdir(folder)
        code: Any = 0
        with _restore_process():
            try:
                runpy.run_path(sys.argv[0], run_name="__main__")
            except SystemExit as end:
                code = end.code or 0
        if not isinstance(code, int):
            print(code, file=error)
            code = 1
        for stream in (output, error):
            stream.seek(0)
        return subprocess.CompletedProcess(arguments, code, output.read(), error.read())


@contextmanager
def _streams(stdin: str) -> Iterator[tuple[Any, Any]]:
    """Standard output and error."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,
        tempfile.TemporaryFile("w+", encoding="utf-8") as error,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8"))
        patch.setattr(sys, "stdout", output)
        patch.setattr(sys, "stderr", error)
        yield output, error


@contextmanager
def _restore_process() -> Iterator[None]:
    """Afterwards nothing is left of a log file in the run's directory, or of signal handlers."""
    root = logging.getLogger()
    handlers, level, terminate = root.handlers[:], root.level, signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        # Hydra's configuration of logging closes all handlers there are, and so pytest's streams.
        patch.setattr(logging, "_handlerList", [])
        patch.setattr(logging, "raiseExceptions", True)  # main.py sets it, and here it would stay
        try:
            yield
        finally:
            for handler in root.handlers:
                if handler not in handlers:
                    handler.close()
            root.handlers[:] = handlers
            root.setLevel(level)
            signal.signal(signal.SIGTERM, terminate)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs main.py in a process of its own, in a folder of the test's own."""
    return lambda *arguments, **more: main_alone(*arguments, folder=tmp_path, **more)


@pytest.fixture
def command_here(tmp_path: Path) -> Command:
    """As `command`, in this process."""
    return lambda *arguments, **more: main_here(*arguments, folder=tmp_path, **more)


@pytest.fixture(scope="session")
def quick_overrides(reviews: Path) -> list[str]:
    """The command line of a quick run on the made-up reviews."""
    return ["data=text_files", f"data.path={reviews}", *QUICK]


class FinishedRun(NamedTuple):
    """A run that no test may change, and what it wrote to standard error."""

    directory: Path
    stderr: str


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory, quick_overrides: list[str]
) -> FinishedRun:
    """A quick run in a process of its own, in the directory that it chose itself.

    The first of pytest-xdist's workers that wants it makes it for all.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    folder.mkdir(exist_ok=True)
    stderr = folder / "stderr.txt"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stderr.exists():
            result = main_alone(*quick_overrides, "export.verify=8", folder=folder)
            assert result.returncode == 0, result.stderr
            stderr.write_text(result.stderr, encoding="utf-8")
    (directory,) = (folder / "outputs" / "sentiment" / "gru").iterdir()
    return FinishedRun(directory, stderr.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def run(finished_run: FinishedRun) -> Path:
    return finished_run.directory


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(run, tmp_path / "copy"))
