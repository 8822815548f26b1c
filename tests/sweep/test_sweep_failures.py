"""Trials that fail, or are given up: the sweep says why, and goes on.

Runs are fake (fake_run.py).
"""

from __future__ import annotations

from sweep_process import (
    count_starts,
    count_states,
    read_summary,
)


def test_failed_trials_of_a_search_are_repeated_at_their_points(run_sweep, tmp_path) -> None:
    search = ["sweep=optuna", "sweep.trials=3", "seed=13", "sweep.failures=1.0"]
    code, output = run_sweep(*search)
    assert code == 0, output
    failed = read_summary(tmp_path)["trials"]
    code, output = run_sweep(*search, "sweep.retry=true", LUCK="1")
    assert "3 failed trials are repeated" in output
    trials = read_summary(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 3
    assert [t["parameters"] for t in trials] == [t["parameters"] for t in failed]
    assert trials[0]["parameters"]["train.learning_rate"] == 0.003  # the default


def test_failures_are_stored_with_their_reason_and_the_sweep_continues(run_sweep, tmp_path) -> None:
    code, output = run_sweep("seed=1,13,14,16,2,3", "sweep.name=bad")
    assert code == 0, output
    trials = read_summary(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == [
        "COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE",
    ]  # fmt: skip
    assert trials[1]["reason"] == "this seed brings no luck"
    assert "killed" in trials[2]["reason"]
    # A killed run is resumed once.
    assert [trials[2]["attempts"], trials[3]["attempts"]] == [2, 2]
    code, output = run_sweep("seed=1,13,14,16,2,3", "sweep.name=bad", "sweep.retry=true")
    assert "2 failed trials are repeated" in output
    assert len(read_summary(tmp_path)["trials"]) == 6


def test_a_run_beyond_its_time_limit_fails(run_sweep, tmp_path) -> None:
    code, output = run_sweep("seed=15,1", "sweep.run_seconds=1")
    assert code == 0, output
    assert "took longer than 1.0 s" in read_summary(tmp_path)["trials"][0]["reason"]
    assert count_states(tmp_path) == {"FAIL": 1, "COMPLETE": 1}


def test_a_run_beyond_its_memory_limit_fails(run_sweep, tmp_path) -> None:
    code, output = run_sweep("seed=15,1", "sweep.run_gigabytes=0.0001", "sweep.failures=1.0")
    assert code == 0, output
    assert "took more than 0.0001 GB" in read_summary(tmp_path)["trials"][0]["reason"]


def test_too_many_failures_end_the_sweep_in_one_line(run_sweep, tmp_path) -> None:
    code, output = run_sweep("seed=13,14,1,2", "sweep.failures=0.25")
    assert code == 1
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "2 of 4 trials have failed" in line
    assert "Traceback" not in output


def test_runs_worse_than_the_median_are_pruned(run_sweep, tmp_path) -> None:
    space = ["sweep.space=null", "train.learning_rate=0.001,0.0011,0.0012,0.0013,0.1,0.0001"]
    code, output = run_sweep(
        "sweep=grid", *space, "sweep.pruner=median", "sweep.prune_after=2", "train.epochs=8",
        FAKE_SECONDS="0.15",
    )  # fmt: skip
    assert code == 0, output
    by_rate = {t["parameters"]["train.learning_rate"]: t for t in read_summary(tmp_path)["trials"]}
    assert by_rate["0.001"]["state"] == "COMPLETE"
    assert by_rate["0.1"]["state"] == by_rate["0.0001"]["state"] == "PRUNED"
    assert by_rate["0.1"]["seconds"] < by_rate["0.001"]["seconds"]


def test_hyperband_prunes_too(run_sweep, tmp_path) -> None:
    code, output = run_sweep(
        "sweep=optuna", "sweep.pruner=hyperband", "sweep.trials=10", "train.epochs=9",
        "sweep.sampler=random", FAKE_SECONDS="0.1",
    )  # fmt: skip
    assert code == 0, output
    assert count_states(tmp_path)["PRUNED"] > 0
    assert sum(count_states(tmp_path).values()) == 10


def test_no_trial_starts_after_the_time_limit_and_the_same_command_continues(
    run_sweep, tmp_path
) -> None:
    code, output = run_sweep("seed=1,2,3,4", "sweep.seconds=0.1", FAKE_SECONDS="0.3")
    assert code == 0, output
    assert "are over: no more trials are started" in output
    assert len(count_starts(tmp_path)) < 4
    code, output = run_sweep("seed=1,2,3,4")
    assert count_states(tmp_path) == {"COMPLETE": 4}
