"""Fixtures: a cache of the tests' own, small data, and settings that train in seconds."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

QUICK = [
    "model.width=6",
    "task.embedding.width=5",
    "task.text.minimum_count=1",
    "task.text.max_tokens=12",
    "train.batch_examples=16",
    "train.epochs=2",
    "train.patience=null",
    "evaluate.resamples=100",
    "export.verify=8",
    "prepare.validation=0.2",
    "prepare.test=0.2",
]
"""Overrides for a run of a few seconds."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees, or leaves anything in, the user's cache."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("RECURRENT_CACHE", str(cache))
    return cache


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


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs main.py in a process of its own, in a folder of its own."""

    def run(
        *arguments: str, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "main.py"), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=tmp_path,
            env={**os.environ, **environment},
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def quick(reviews: Path) -> list[str]:
    """The command line of a quick run on the made-up reviews."""
    return ["data=text_files", f"data.path={reviews}", *QUICK]
