"""The leaderboard: its numbers against ones computed by hand, and what it makes of odd runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ROOT, Command, Finished
from hydra import compose, initialize_config_dir

from pipelines.comparing.board import board_of, front, interval
from pipelines.comparing.figures import slices
from pipelines.comparing.importance import importances
from pipelines.comparing.leaderboard import leaderboard
from pipelines.comparing.records import find_records
from pipelines.comparing.significance import Difference, difference, differences, holm
from pipelines.comparing.winner import changes, command, experiment
from pipelines.contracts import UserError
from pipelines.predictions import keep
from pipelines.run import Run, resolved
from pipelines.sweeping.stored import host
from pipelines.tasks import Score
from pipelines.tracking import hyperparameters

LONG = "とても長い日本語の名前がここに立つので折り返しが要る設定値"


def entry(value: float, *, higher: bool = True) -> dict[str, Any]:
    return {
        "value": value, "low": value - 0.02, "high": value + 0.03,
        "signature": "s", "higher_is_better": higher,
    }  # fmt: skip


def made_up(
    directory: Path,
    overrides: Sequence[str],
    *,
    accuracy: float = 0.5,
    seed: int = 1,
    done: bool = True,
    right: Sequence[int] | None = None,
    **costs: float,
) -> Path:
    """A run's directory as the stages leave it, without its model."""
    choices = {"model": "gru", "task": "sentiment", "data": "rotten_tomatoes"}
    given = dict(text.split("=", 1) for text in [*overrides, f"seed={seed}"])
    choices |= {key: value for key, value in given.items() if key in choices}
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra" / "overrides.yaml").write_text(
        yaml.safe_dump([f"{k}={v}" for k, v in given.items()])
    )
    (directory / ".hydra" / "hydra.yaml").write_text(
        yaml.safe_dump({"hydra": {"runtime": {"choices": choices}}})
    )
    config: dict[str, Any] = {
        "task": {"name": "sentiment"}, "data": {"name": "rotten_tomatoes"}, "seed": seed,
        "prepare": {"limit": None}, "train": {"monitor": None, "epochs": 3, "learning_rate": 0.1},
    }  # fmt: skip
    for key, text in given.items():
        *groups, name = key.split(".")
        part = config
        for group in groups:
            part = part.setdefault(group, {})
        if key not in choices:
            part[name] = yaml.safe_load(text) if text[0] not in "<" else text
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{"epoch": e, "validation.accuracy": accuracy * e / 3} for e in (1, 2, 3)]
    (directory / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if done:
        metrics = {
            "validation": {"accuracy": entry(accuracy), "loss": entry(1 - accuracy, higher=False)},
            "test": {"accuracy": entry(accuracy - 0.1)},
            "seconds": {"train": costs.get("seconds", 10.0), "report": 1.0},
            "parameters": {"total": int(costs.get("parameters", 1000))},
            "latency": {"milliseconds": costs.get("milliseconds", 2.0)},
            "memory": {"peak_resident_mb": 800.0},
        }
        (directory / "metrics.json").write_text(json.dumps(metrics))
    if right is not None:
        keep(directory / "predictions.npz", "test", {"right": np.array(right, float)})
        lines = [
            {"split": "test", "row": row, "given": {"text": f"t{row}"}, "reference": {"label": "a"}}
            for row in range(len(right))
        ]
        (directory / "predictions.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return directory


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Two models, three seeds each; gru is better by 0.1."""
    for model, start in (("gru", 0.70), ("lstm", 0.60)):
        for seed in (1, 2, 3):
            made_up(
                tmp_path / "grid" / f"{model}-{seed}", [f"model={model}"],
                accuracy=start + 0.01 * seed, seed=seed,
                milliseconds=seed if model == "gru" else 0.5 * seed,
            )  # fmt: skip
    return tmp_path / "grid"


def no_split(run: Run, name: str) -> Any:
    raise UserError("there is no data")


def test_an_interval_over_seeds_is_students_t() -> None:
    found = interval([entry(0.71), entry(0.72), entry(0.73)])
    assert found is not None
    # s = 0.01, t(0.975, 2) = 4.302653, so half = 4.302653 * 0.01 / sqrt(3) = 0.0248414
    assert found.mean == pytest.approx(0.72)
    assert found.low == pytest.approx(0.72 - 0.0248414, abs=1e-6)
    assert found.high == pytest.approx(0.72 + 0.0248414, abs=1e-6)
    alone = interval([entry(0.71)])
    assert alone is not None
    assert (alone.low, alone.high) == (pytest.approx(0.69), pytest.approx(0.74))
    assert interval([]) is None


def test_runs_that_differ_by_their_seed_are_one_configuration(grid: Path) -> None:
    (page,) = leaderboard(str(grid), None, no_split)
    assert page == grid / "leaderboard.html"
    found = json.loads((grid / "leaderboard.json").read_text())
    first, second = found["configurations"]
    assert first["settings"] == {"model": "gru"}
    assert len(first["runs"]) == 3
    assert first["scores"]["validation"]["value"] == pytest.approx(0.72)
    assert first["scores"]["test"]["value"] == pytest.approx(0.62)
    assert second["scores"]["validation"]["low"] == pytest.approx(0.62 - 0.0248414, abs=1e-6)
    assert first["costs"] == {"milliseconds": 2.0, "parameters": 1000, "seconds": 10, "memory": 800}
    assert second["costs"]["milliseconds"] == 1.0
    markdown = (grid / "leaderboard.md").read_text()
    assert "| 1 | gru | 0.720 (0.695 to 0.745) | 0.620 (0.595 to 0.645) | 3 |" in markdown
    with (grid / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["model"] for row in rows} == {"gru", "lstm"}
    assert sorted(float(row["validation.accuracy"]) for row in rows)[-1] == pytest.approx(0.73)
    assert found["again"] == "python main.py model=gru seed=3"


def test_the_page_needs_nothing_from_elsewhere_and_escapes(tmp_path: Path) -> None:
    for place, text in enumerate((LONG, "<b>&", "plain")):
        made_up(tmp_path / "runs" / str(place), [f"task.text={text}"], accuracy=0.5 + place / 10)
    (page,) = leaderboard(f"{tmp_path}/runs/*", str(tmp_path / "out"), no_split)
    html = page.read_text()
    assert page.parent == tmp_path / "out"
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert LONG in html
    assert "<b>&" not in html
    assert "&lt;b&gt;" in html


def test_pruned_failed_and_unfinished_runs_are_told_with_their_reason(grid: Path) -> None:
    made_up(grid / "0007", ["model=simple_rnn"], done=False)
    made_up(grid / "0008", ["model=bi_gru"], done=False)
    trials = [
        {"number": 7, "state": "PRUNED", "overrides": ["model=simple_rnn"]},
        {"number": 9, "state": "FAIL", "overrides": ["model=bi_lstm"], "reason": "no memory"},
    ]
    summary = {"objectives": ["validation.accuracy"], "trials": trials}
    (grid / "sweep.json").write_text(json.dumps(summary))
    leaderboard(str(grid), None, no_split)
    markdown = (grid / "leaderboard.md").read_text()
    assert "| 0007 | pruned | model simple_rnn | accuracy 0.500 after 3 evaluations |" in markdown
    assert "| 0008 | unfinished |" in markdown
    assert "| 0009 | failed | model bi_lstm | no memory |" in markdown


def test_a_sweeps_own_objective_ranks_and_errors_are_small_at_best(grid: Path) -> None:
    summary = {"objectives": ["validation.loss"], "trials": []}
    (grid / "sweep.json").write_text(json.dumps(summary))
    board = board_of(find_records(str(grid))[0], "validation.loss")
    assert board.score == "loss"
    assert board.winner.settings == {"model": "gru"}
    assert board.best_run().run.directory.name == "gru-3"


def test_other_data_is_another_leaderboard_with_another_winner(grid: Path) -> None:
    made_up(grid / "other", ["model=simple_rnn", "prepare.limit=100"], accuracy=0.99)
    pages = leaderboard(str(grid), None, no_split)
    assert [page.name for page in pages] == ["leaderboard-1.html", "leaderboard-2.html"]
    winners = [yaml.safe_load((grid / f"experiment/winner-{n}.yaml").read_text()) for n in (1, 2)]
    models = [
        option["override /model"] for one in winners for option in one["defaults"] if
        "override /model" in option
    ]  # fmt: skip
    assert models == ["gru", "simple_rnn"]
    for number in (1, 2):
        page = json.loads((grid / f"leaderboard-{number}.json").read_text())
        assert page["train"].endswith(f"experiment=winner-{number}")


def test_a_seed_that_was_run_twice_is_one_seed(tmp_path: Path) -> None:
    for place in range(2):
        made_up(tmp_path / "r" / str(place), ["model=gru"], accuracy=0.8, right=[1] * 30 + [0] * 10)
        made_up(tmp_path / "r" / f"x{place}", ["model=lstm"], accuracy=0.7, right=[1] * 40)
    board = board_of(find_records(str(tmp_path / "r"))[0], None)
    found = board.winner.score("validation", "accuracy")
    assert found is not None
    # Over examples, as of one run: over runs it would be no interval at all.
    assert (found.low, found.high, found.count) == (pytest.approx(0.78), pytest.approx(0.83), 1)
    beside, _ = differences(board, lambda run, name: (Task(), Split(40)))  # type: ignore[arg-type, return-value]
    assert beside[0].high - beside[0].low > 0.1


def test_a_run_without_the_score_is_told_and_the_others_are_ranked(tmp_path: Path) -> None:
    without = made_up(tmp_path / "r" / "a", ["model=gru"], accuracy=0.9, seed=1)
    made_up(tmp_path / "r" / "b", ["model=gru"], accuracy=0.8, seed=2)
    for place in range(6):
        made_up(tmp_path / "r" / f"c{place}", ["model=lstm"], accuracy=0.7 + place / 90, seed=place)
    metrics = json.loads((without / "metrics.json").read_text())
    del metrics["validation"]
    (without / "metrics.json").write_text(json.dumps(metrics))
    leaderboard(str(tmp_path / "r"), None, no_split)
    found = json.loads((tmp_path / "r" / "leaderboard.json").read_text())
    assert found["ranked_on"] == "validation"
    assert found["again"] == "python main.py model=gru seed=2"
    assert set(found["importances"]) == {"model", "seed"}
    why = "it has no validation accuracy: measure it by mode=evaluate"
    assert f"| a | finished | model gru | {why} |" in (tmp_path / "r/leaderboard.md").read_text()


def test_a_value_is_the_same_however_it_is_typed(tmp_path: Path) -> None:
    for place, text in enumerate(("train.learning_rate=0.001", "train.learning_rate=1.0e-3")):
        made_up(tmp_path / "r" / str(place), [text, "task.x=null"], seed=place)
    board = board_of(find_records(str(tmp_path / "r"))[0], None)
    assert board.varied == []
    assert len(board.configurations) == 1


def test_of_many_settings_a_configuration_is_called_by_its_run(tmp_path: Path) -> None:
    keys = ("model.width", "model.layers", "task.dropout", "train.epochs")
    for place in range(3):
        settings = [f"{key}={place + 1}" for key in keys]
        made_up(tmp_path / "r" / f"000{place}", settings, accuracy=0.6 + place / 10)
    board = board_of(find_records(str(tmp_path / "r"))[0], None)
    assert [one.name for one in board.configurations] == ["run 0002", "run 0001", "run 0000"]
    leaderboard(str(tmp_path / "r"), None, no_split)
    markdown = (tmp_path / "r" / "leaderboard.md").read_text()
    assert "The best is run 0002, width 3, layers 3, dropout 3, epochs 3: " in markdown
    assert "| 1 | 0002 | 0.800 (0.780" in markdown
    assert "| 3 | 3 | 3 | 3 | 1,000 |" in markdown
    header = (
        "| rank | runs | validation accuracy | test accuracy | width | layers | dropout | epochs |"
    )
    assert header in markdown


def test_pruned_runs_say_which_settings_matter_too(tmp_path: Path) -> None:
    trials = []
    for place in range(12):
        rate, width = ("0.1", "0.01")[place % 2], 8 * (1 + place // 4)
        finished = place in (1, 3)
        made_up(
            tmp_path / "r" / f"{place:04d}",
            [f"train.learning_rate={rate}", f"model.width={width}"],
            accuracy=0.5 + 0.3 * (place % 2) + place / 1000, done=finished,
        )  # fmt: skip
        trials.append({"number": place, "state": "COMPLETE" if finished else "PRUNED"})
    (tmp_path / "r" / "sweep.json").write_text(json.dumps({"trials": trials}))
    board = board_of(find_records(str(tmp_path / "r"))[0], None)
    assert board.varied == []
    assert board.searched == ["train.learning_rate", "model.width"]
    assert [round(value, 3) for _, value in board.pruned][:3] == [0.5, 0.502, 0.504]
    assert importances(board)["train.learning_rate"] > 0.9
    assert [figure.title for figure in slices(board, board.searched)] == list(board.searched)


def test_trials_on_other_machines_are_told(grid: Path) -> None:
    trials = [
        {"number": 7, "state": "COMPLETE", "overrides": ["model=bi_gru"], "host": "other"},
        {"number": 8, "state": "PRUNED", "overrides": ["model=bi_lstm"], "host": "other"},
        {"number": 9, "state": "RUNNING", "overrides": ["model=lstm"], "host": "third"},
    ]
    (grid / "sweep.json").write_text(json.dumps({"trials": trials}))
    leaderboard(str(grid), None, no_split)
    markdown = (grid / "leaderboard.md").read_text()
    assert "Not in it: 2 trials of the study without a directory here." in markdown
    why = "finished; its directory is on other"
    assert f"| 0007 | elsewhere | model bi_gru | {why} |" in markdown
    why = "not finished; its directory is on third"
    assert f"| 0009 | unfinished | model lstm | {why} |" in markdown


def test_of_a_sweep_the_runs_that_are_asked_for_are_compared(tmp_path: Path) -> None:
    for number in range(4):
        made_up(tmp_path / "s" / f"000{number}", ["model=gru"], seed=number)
    states = ["COMPLETE"] * 5
    trials = [
        {"number": number, "state": state, "overrides": [], "host": host()}
        for number, state in enumerate(states)
    ]
    (tmp_path / "s" / "sweep.json").write_text(json.dumps({"trials": trials}))
    records, _ = find_records(f"{tmp_path}/s/0000,{tmp_path}/s/0001")
    assert [record.state for record in records] == ["finished"] * 2
    for pattern in (tmp_path / "s", tmp_path):
        records, _ = find_records(str(pattern))
        assert [record.state for record in records] == ["finished"] * 4 + ["elsewhere"]
        assert records[4].trial["reason"] == "finished; its directory is gone"


def test_trials_without_a_directory_are_told_where_their_sweep_is(tmp_path: Path) -> None:
    made_up(tmp_path / "a" / "0000", ["model=gru"])
    made_up(tmp_path / "b" / "0000", ["model=gru", "prepare.limit=100"])
    lost = {"number": 1, "state": "COMPLETE", "overrides": [], "host": "other"}
    (tmp_path / "b" / "sweep.json").write_text(json.dumps({"trials": [lost]}))
    first, second = leaderboard(str(tmp_path), None, no_split)
    assert "without a directory here" not in first.read_text()
    assert "Not in it: one trial of the study without a directory here." in second.read_text()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "sweep.json").write_text(json.dumps({"trials": [lost]}))
    with pytest.raises(UserError, match="but 1 trials whose directories are not here"):
        leaderboard(str(tmp_path / "c"), None, no_split)


def test_a_score_that_some_run_has_decides_if_it_was_asked_for(grid: Path) -> None:
    for model in ("gru", "lstm"):
        path = grid / f"{model}-1" / "metrics.json"
        metrics = json.loads(path.read_text())
        del metrics["validation"]["loss"]
        path.write_text(json.dumps(metrics))
    board = board_of(find_records(str(grid))[0], "validation.loss")
    assert board.score == "loss"
    assert [len(board.values(one)) for one in board.configurations] == [2, 2]


def test_what_was_not_measured_on_the_test_split_does_not_keep_others_from_being_tested(
    tmp_path: Path,
) -> None:
    for place, model in enumerate(("gru", "lstm", "simple_rnn")):
        right = [1] * (30 - place) + [0] * (10 + place)
        made_up(tmp_path / "r" / model, [f"model={model}"], accuracy=0.8 - place / 10, right=right)
    path = tmp_path / "r" / "lstm" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["test"]
    path.write_text(json.dumps(metrics))
    board = board_of(find_records(str(tmp_path / "r"))[0], None)
    found, note = differences(board, lambda run, name: (Task(), Split(40)))  # type: ignore[arg-type, return-value]
    assert [one.name for one in found] == ["simple_rnn"]
    assert note == "1 that rank lower or have no such score are left out."


def test_the_command_of_the_best_run_is_as_it_was_typed(tmp_path: Path) -> None:
    made_up(tmp_path / "r" / "a", [])
    given = ["+task.extra=1", "~train.z", "model=gru", "export.saved_model=false"]
    (tmp_path / "r/a/.hydra/overrides.yaml").write_text(yaml.safe_dump(given))
    (record,) = find_records(str(tmp_path / "r"))[0]
    assert command(record) == "python main.py +task.extra=1 '~train.z' model=gru"


def test_nothing_to_compare_is_told_in_one_line(tmp_path: Path, command_here: Command) -> None:
    made_up(tmp_path / "runs" / "a", [], done=False)
    for given, told in (
        (["mode=compare"], "mode=compare needs runs=DIRECTORIES"),
        (["mode=compare", "runs=nowhere/*"], "runs=nowhere/*: there is no such directory"),
        (["mode=compare", "runs=runs"], "none of the 1 runs is finished (unfinished)"),
        (["runs=runs"], "runs goes with mode=compare"),
    ):
        done = command_here(*given)
        assert done.returncode == 1
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run.log").exists()


def test_the_front_is_what_nothing_beats_in_both() -> None:
    points = [(1.0, 0.5), (2.0, 0.7), (2.0, 0.8), (3.0, 0.8), (0.5, 0.4), (4.0, 0.9)]
    assert front(points, maximize=True) == [4, 0, 2, 5]
    assert front([(1.0, 0.5), (2.0, 0.4), (3.0, 0.6)], maximize=False) == [0, 1]


def test_a_difference_has_both_what_other_examples_and_other_runs_change() -> None:
    random = np.random.default_rng(0)
    alike = 0.8 + 0.01 * random.standard_normal((1, 4000))
    found = difference("other", 0.8, alike, 0.7, alike - 0.1)
    assert (found.value, found.low, found.high) == (pytest.approx(0.1),) * 3
    assert found.p < 0.01
    # Runs 0.1 apart on the same examples: a mean of two drawn ones is -0.05, 0 or 0.05 off.
    apart = np.stack([alike[0] - 0.05, alike[0] + 0.05])
    wider = difference("other", 0.8, apart, 0.8, alike)
    assert (wider.low, wider.high) == (pytest.approx(-0.05), pytest.approx(0.05))
    assert not wider.significant


def test_holms_correction() -> None:
    found = [Difference(str(p), 0, 0, 0, p) for p in (0.01, 0.04, 0.03)]
    # By rank: 3 × 0.01, then the larger of that and 2 × 0.03, then of that and 1 × 0.04.
    assert [one.p for one in holm(found)] == pytest.approx([0.03, 0.06, 0.06])


class Split:
    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n


class Task:
    def score(self, predictions: Mapping[str, np.ndarray], split: Split) -> dict[str, Score]:
        right = predictions["right"]
        return {"accuracy": Score("accuracy", lambda w: w @ right / w.sum(1), "share")}


def test_the_winner_is_tested_on_the_same_examples(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    base = random.random(400) < 0.6
    better = base | (random.random(400) < 0.5)
    level = base.copy()
    level[np.flatnonzero(base)[:3]] = False
    level[np.flatnonzero(~base)[:3]] = True
    for model, right, accuracy in (
        ("gru", better, 0.8), ("lstm", base, 0.7), ("simple_rnn", level, 0.6),
    ):  # fmt: skip
        made_up(tmp_path / "r" / model, [f"model={model}"], accuracy=accuracy, right=right)
    asked = []

    def split_of(run: Run, name: str) -> Any:
        asked.append(name)
        return Task(), Split(400)

    leaderboard(str(tmp_path / "r"), None, split_of)
    found = json.loads((tmp_path / "r" / "leaderboard.json").read_text())["differences"]
    assert [one["name"] for one in found] == ["lstm", "simple_rnn"]
    assert found[0]["value"] == pytest.approx(better.mean() - base.mean())
    assert found[0]["low"] < found[0]["value"] < found[0]["high"]
    assert all(one["significant"] for one in found)
    assert set(asked) == {"test"}
    assert "differs significantly from all" in (tmp_path / "r" / "leaderboard.md").read_text()


def test_runs_on_other_examples_are_not_tested(tmp_path: Path) -> None:
    made_up(tmp_path / "r" / "a", ["model=gru"], accuracy=0.8, right=[1] * 40)
    made_up(tmp_path / "r" / "b", ["model=lstm"], accuracy=0.7, right=[1] * 30)
    leaderboard(str(tmp_path / "r"), None, lambda run, name: (Task(), Split(40)))  # type: ignore[arg-type, return-value]
    assert "was measured on other examples" in (tmp_path / "r" / "leaderboard.md").read_text()


def test_what_decides_the_score_is_the_most_important(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    for place in range(24):
        width, rate = int(random.choice([8, 16, 32])), 10 ** random.uniform(-4, -2)
        made_up(
            tmp_path / "r" / str(place),
            [f"model.width={width}", f"train.learning_rate={rate}"],
            accuracy=0.9 - abs(np.log10(rate) + 3) / 4 + width / 1e4,
        )
    shares = importances(board_of(find_records(str(tmp_path / "r"))[0], None))
    assert next(iter(shares)) == "train.learning_rate"
    assert shares["train.learning_rate"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)


def test_the_winner_written_out_composes_to_the_run_itself(
    finished: Finished, command_here: Command, tmp_path: Path
) -> None:
    done = command_here("mode=compare", f"runs={finished.directory}", f"output={tmp_path}/out")
    assert done.returncode == 0, done.stderr
    assert "Leaderboard: " in done.stderr
    assert not (tmp_path / "run.log").exists()
    composed = command_here("--config-dir", f"{tmp_path}/out", "experiment=winner", "--cfg", "job")
    assert composed.returncode == 0, composed.stderr
    values, saved = (
        yaml.safe_load(composed.stdout),
        yaml.safe_load((finished.directory / "config.yaml").read_text()),
    )
    for part in ("task", "model", "train", "data", "decode"):
        assert values[part] == saved[part]
    record = find_records(str(finished.directory))[0][0]
    found, choices = experiment(record)
    assert choices["data"] == "text_files"
    assert found["model"] == {"width": 6}


def test_changes_are_what_differs_nested() -> None:
    known = {"a": 1, "b": {"c": 2, "d": [1]}}
    assert changes({"a": 1, "b": {"c": 3, "d": [1]}}, known) == {"b": {"c": 3}}
    assert changes(known, known) == {}
    assert changes({"e": {"f": 1}}, known) == {"e": {"f": 1}}


def test_hyperparameters_are_what_the_command_line_said(finished: Finished) -> None:
    given = {"task": "sentiment", "model": "gru", "seed": 1}
    values = hyperparameters(Run(finished.directory), given)
    assert values["model.width"] == 6
    assert values["model"] == "gru"
    assert not [key for key in values if key.startswith(("evaluate", "export"))]
    assert list((finished.directory / "tensorboard").iterdir())


def test_the_default_of_a_setting_is_its_value_where_others_change_it(tmp_path: Path) -> None:
    made_up(tmp_path / "r" / "a", [], accuracy=0.6)
    made_up(tmp_path / "r" / "b", ["train.learning_rate=0.5", "model=lstm"], accuracy=0.7)
    board = board_of(find_records(str(tmp_path / "r"))[0], None)
    assert board.configurations[0].settings == {"train.learning_rate": "0.5", "model": "lstm"}
    assert board.configurations[1].settings == {"train.learning_rate": "0.1", "model": "gru"}


def test_options_of_conf_are_known() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        values = resolved(compose("config", []))
    assert values["sweep"]["sampler"] == "grid"
