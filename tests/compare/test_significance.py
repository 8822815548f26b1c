"""Intervals and significance tests, against numbers computed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import Split, Task, write_run

from pipelines.compare.leaderboard import write_leaderboards
from pipelines.compare.ranking import Interval, compute_interval, rank
from pipelines.compare.run_records import find_records
from pipelines.compare.significance import (
    Difference,
    Resampled,
    compute_difference,
    compute_differences,
    correct_by_holm,
)
from pipelines.runs.directory import Run


def test_the_interval_over_seeds_is_students_t() -> None:
    found = compute_interval(
        [Interval(value, value - 0.02, value + 0.03, 1) for value in (0.71, 0.72, 0.73)]
    )
    assert found is not None
    # s = 0.01, t(0.975, 2) = 4.302653, so half = 4.302653 * 0.01 / sqrt(3) = 0.0248414
    assert found.mean == pytest.approx(0.72)
    assert found.low == pytest.approx(0.72 - 0.0248414, abs=1e-6)
    assert found.high == pytest.approx(0.72 + 0.0248414, abs=1e-6)
    alone = compute_interval([Interval(0.71, 0.69, 0.74, 1)])
    assert alone is not None
    assert (alone.low, alone.high) == (pytest.approx(0.69), pytest.approx(0.74))
    assert compute_interval([]) is None


def test_the_interval_of_a_difference_covers_examples_and_seeds() -> None:
    random = np.random.default_rng(0)
    alike = 0.8 + 0.01 * random.standard_normal((1, 4000))
    found = compute_difference("other", Resampled(0.8, alike), Resampled(0.7, alike - 0.1))
    assert (found.value, found.low, found.high) == (pytest.approx(0.1),) * 3
    assert found.p < 0.01
    # Runs 0.1 apart on the same examples: a mean of two drawn ones is -0.05, 0 or 0.05 off.
    apart = np.stack([alike[0] - 0.05, alike[0] + 0.05])
    wider = compute_difference("other", Resampled(0.8, apart), Resampled(0.8, alike))
    assert (wider.low, wider.high) == (pytest.approx(-0.05), pytest.approx(0.05))
    assert not wider.significant


def test_holms_correction_of_p_values() -> None:
    found = [Difference(str(p), 0, 0, 0, p) for p in (0.01, 0.04, 0.03)]
    # By rank: 3 × 0.01, then the larger of that and 2 × 0.03, then of that and 1 × 0.04.
    assert [one.p for one in correct_by_holm(found)] == pytest.approx([0.03, 0.06, 0.06])


def test_all_are_compared_with_the_winner_on_the_same_examples(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    base = random.random(400) < 0.6
    better = base | (random.random(400) < 0.5)
    level = base.copy()
    level[np.flatnonzero(base)[:3]] = False
    level[np.flatnonzero(~base)[:3]] = True
    for model, right, accuracy in (
        ("gru", better, 0.8), ("lstm", base, 0.7), ("simple_rnn", level, 0.6),
    ):  # fmt: skip
        write_run(tmp_path / "r" / model, [f"model={model}"], accuracy=accuracy, right=right)
    loaded_splits = []

    def load_split(run: Run, name: str) -> Any:
        loaded_splits.append(name)
        return Task(), Split(400)

    write_leaderboards(str(tmp_path / "r"), None, load_split)
    found = json.loads((tmp_path / "r" / "leaderboard.json").read_text())["differences"]
    assert [one["name"] for one in found] == ["lstm", "simple_rnn"]
    assert found[0]["value"] == pytest.approx(better.mean() - base.mean())
    assert found[0]["low"] < found[0]["value"] < found[0]["high"]
    assert all(one["significant"] for one in found)
    assert set(loaded_splits) == {"test"}
    assert "differs significantly from all" in (tmp_path / "r" / "leaderboard.md").read_text()


def test_runs_on_other_examples_are_not_tested(tmp_path: Path) -> None:
    write_run(tmp_path / "r" / "a", ["model=gru"], accuracy=0.8, right=[1] * 40)
    write_run(tmp_path / "r" / "b", ["model=lstm"], accuracy=0.7, right=[1] * 30)
    write_leaderboards(str(tmp_path / "r"), None, lambda run, name: (Task(), Split(40)))  # type: ignore[arg-type, return-value]
    assert "was measured on other examples" in (tmp_path / "r" / "leaderboard.md").read_text()


def test_configurations_without_a_test_score_are_left_out_of_the_tests(
    tmp_path: Path,
) -> None:
    for place, model in enumerate(("gru", "lstm", "simple_rnn")):
        right = [1] * (30 - place) + [0] * (10 + place)
        write_run(
            tmp_path / "r" / model, [f"model={model}"], accuracy=0.8 - place / 10, right=right
        )
    path = tmp_path / "r" / "lstm" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["test"]
    path.write_text(json.dumps(metrics))
    ranking = rank(find_records(str(tmp_path / "r"))[0], None)
    found, note = compute_differences(ranking, lambda run, name: (Task(), Split(40)))  # type: ignore[arg-type, return-value]
    assert [one.name for one in found] == ["simple_rnn"]
    assert note == "1 that rank lower or have no such score are left out."
