"""The leaderboard: numbers against ones computed by hand, and incomplete runs."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Command, FinishedRun
from markdown_it import MarkdownIt
from synthetic_runs import Split, Task, fail_to_load_split, write_run

from pipelines.compare.importance import compute_importances
from pipelines.compare.leaderboard import write_leaderboards
from pipelines.compare.plots import slice_figures
from pipelines.compare.ranking import pareto_front, rank
from pipelines.compare.run_records import find_records
from pipelines.compare.significance import compute_differences
from pipelines.core.errors import UserError
from pipelines.runs.directory import Run
from pipelines.runs.tracking import hyperparameters
from pipelines.sweep.trials import host

LONG = "とても長い日本語の名前がここに立つので折り返しが要る設定値"


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Two models, three seeds each; gru is better by 0.1."""
    for model, start in (("gru", 0.70), ("lstm", 0.60)):
        for seed in (1, 2, 3):
            write_run(
                tmp_path / "grid" / f"{model}-{seed}", [f"model={model}"],
                accuracy=start + 0.01 * seed, seed=seed,
                milliseconds=seed if model == "gru" else 0.5 * seed,
            )  # fmt: skip
    return tmp_path / "grid"


def test_runs_that_differ_only_in_their_seed_are_one_configuration(grid: Path) -> None:
    (page,) = write_leaderboards(str(grid), None, fail_to_load_split)
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


def test_the_page_loads_nothing_and_escapes_html(tmp_path: Path) -> None:
    for place, text in enumerate((LONG, "<b>&", "plain")):
        write_run(tmp_path / "runs" / str(place), [f"task.text={text}"], accuracy=0.5 + place / 10)
    (page,) = write_leaderboards(f"{tmp_path}/runs/*", str(tmp_path / "out"), fail_to_load_split)
    html = page.read_text()
    assert page.parent == tmp_path / "out"
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert LONG in html
    assert "<b>&" not in html
    assert "&lt;b&gt;" in html


def test_the_files_are_text_to_markdown_and_to_spreadsheets(tmp_path: Path) -> None:
    evil = ("=HYPERLINK(1)", "| a [x](javascript:y) |", "<script>\x1b[31m", "a\n\n# b")
    for place, text in enumerate(evil):
        config = write_run(tmp_path / "runs" / str(place), [f"task.text=_{place}"], accuracy=0.5)
        values = yaml.safe_load((config / "config.yaml").read_text())
        values["task"]["text"] = text
        (config / "config.yaml").write_text(yaml.safe_dump(values))
    write_leaderboards(f"{tmp_path}/runs/*", str(tmp_path / "out"), fail_to_load_split)
    markdown = (tmp_path / "out" / "leaderboard.md").read_text()
    page = MarkdownIt("commonmark").enable("table").render(markdown)
    assert set(re.findall(r"<(\w+)", page)) <= {
        "h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "pre", "code",
    }  # fmt: skip
    for shown in (evil[0], evil[1], "&lt;script&gt;␛[31m", "a # b"):
        assert f"<td>{shown}</td>" in page
    with (tmp_path / "out" / "leaderboard.csv").open(newline="") as file:
        cells = {row["task.text"] for row in csv.DictReader(file)}
    assert cells == {f"'{evil[0]}", *evil[1:]}


def test_pruned_failed_and_unfinished_runs_are_listed_with_their_reason(grid: Path) -> None:
    write_run(grid / "0007", ["model=simple_rnn"], done=False)
    write_run(grid / "0008", ["model=bi_gru"], done=False)
    trials = [
        {"number": 7, "state": "PRUNED", "overrides": ["model=simple_rnn"]},
        {"number": 9, "state": "FAIL", "overrides": ["model=bi_lstm"], "reason": "no memory"},
    ]
    summary = {"objectives": ["validation.accuracy"], "trials": trials}
    (grid / "sweep.json").write_text(json.dumps(summary))
    write_leaderboards(str(grid), None, fail_to_load_split)
    markdown = (grid / "leaderboard.md").read_text()
    assert "| 0007 | pruned | model simple_rnn | accuracy 0.500 after 3 evaluations |" in markdown
    assert "| 0008 | unfinished |" in markdown
    assert "| 0009 | failed | model bi_lstm | no memory |" in markdown


def test_a_sweeps_objective_ranks_and_a_small_loss_is_best(grid: Path) -> None:
    summary = {"objectives": ["validation.loss"], "trials": []}
    (grid / "sweep.json").write_text(json.dumps(summary))
    ranking = rank(find_records(str(grid))[0], "validation.loss")
    assert ranking.score == "loss"
    assert ranking.winner.settings == {"model": "gru"}
    assert ranking.best_run().run.directory.name == "gru-3"


def test_runs_on_other_data_have_a_leaderboard_of_their_own(grid: Path) -> None:
    write_run(grid / "other", ["model=simple_rnn", "prepare.limit=100"], accuracy=0.99)
    pages = write_leaderboards(str(grid), None, fail_to_load_split)
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


def test_two_runs_with_one_seed_count_as_one_seed(tmp_path: Path) -> None:
    for place in range(2):
        write_run(
            tmp_path / "r" / str(place), ["model=gru"], accuracy=0.8, right=[1] * 30 + [0] * 10
        )
        write_run(tmp_path / "r" / f"x{place}", ["model=lstm"], accuracy=0.7, right=[1] * 40)
    ranking = rank(find_records(str(tmp_path / "r"))[0], None)
    found = ranking.winner.score("validation", "accuracy")
    assert found is not None
    # Over examples, as of one run: over runs it would be no interval at all.
    assert (found.low, found.high, found.count) == (pytest.approx(0.78), pytest.approx(0.83), 1)
    tested, _ = compute_differences(ranking, lambda run, name: (Task(), Split(40)))  # type: ignore[arg-type, return-value]
    assert tested[0].high - tested[0].low > 0.1


def test_a_run_without_the_score_is_listed_and_the_others_are_ranked(tmp_path: Path) -> None:
    without = write_run(tmp_path / "r" / "a", ["model=gru"], accuracy=0.9, seed=1)
    write_run(tmp_path / "r" / "b", ["model=gru"], accuracy=0.8, seed=2)
    for place in range(6):
        write_run(
            tmp_path / "r" / f"c{place}", ["model=lstm"], accuracy=0.7 + place / 90, seed=place
        )
    metrics = json.loads((without / "metrics.json").read_text())
    del metrics["validation"]
    (without / "metrics.json").write_text(json.dumps(metrics))
    write_leaderboards(str(tmp_path / "r"), None, fail_to_load_split)
    found = json.loads((tmp_path / "r" / "leaderboard.json").read_text())
    assert found["ranked_on"] == "validation"
    assert found["again"] == "python main.py model=gru seed=2"
    assert set(found["importances"]) == {"model", "seed"}
    why = "it has no validation accuracy: measure it by mode=evaluate"
    assert f"| a | finished | model gru | {why} |" in (tmp_path / "r/leaderboard.md").read_text()


def test_values_are_equal_however_they_are_typed(tmp_path: Path) -> None:
    for place, text in enumerate(("train.learning_rate=0.001", "train.learning_rate=1.0e-3")):
        write_run(tmp_path / "r" / str(place), [text, "task.x=null"], seed=place)
    ranking = rank(find_records(str(tmp_path / "r"))[0], None)
    assert ranking.varied == []
    assert len(ranking.configurations) == 1


def test_a_configuration_with_many_settings_is_named_by_its_run(tmp_path: Path) -> None:
    keys = ("model.width", "model.layers", "task.dropout", "train.epochs")
    for place in range(3):
        settings = [f"{key}={place + 1}" for key in keys]
        write_run(tmp_path / "r" / f"000{place}", settings, accuracy=0.6 + place / 10)
    ranking = rank(find_records(str(tmp_path / "r"))[0], None)
    assert [one.name for one in ranking.configurations] == ["run 0002", "run 0001", "run 0000"]
    write_leaderboards(str(tmp_path / "r"), None, fail_to_load_split)
    markdown = (tmp_path / "r" / "leaderboard.md").read_text()
    assert "The best is run 0002, width 3, layers 3, dropout 3, epochs 3: " in markdown
    assert "| 1 | 0002 | 0.800 (0.780" in markdown
    assert "| 3 | 3 | 3 | 3 | 1,000 |" in markdown
    header = (
        "| rank | runs | validation accuracy | test accuracy | width | layers | dropout | epochs |"
    )
    assert header in markdown


def test_pruned_runs_count_for_importances(tmp_path: Path) -> None:
    trials = []
    for place in range(12):
        rate, width = ("0.1", "0.01")[place % 2], 8 * (1 + place // 4)
        finished = place in (1, 3)
        write_run(
            tmp_path / "r" / f"{place:04d}",
            [f"train.learning_rate={rate}", f"model.width={width}"],
            accuracy=0.5 + 0.3 * (place % 2) + place / 1000, done=finished,
        )  # fmt: skip
        trials.append({"number": place, "state": "COMPLETE" if finished else "PRUNED"})
    (tmp_path / "r" / "sweep.json").write_text(json.dumps({"trials": trials}))
    ranking = rank(find_records(str(tmp_path / "r"))[0], None)
    assert ranking.varied == []
    assert ranking.searched == ["train.learning_rate", "model.width"]
    assert [round(value, 3) for _, value in ranking.pruned][:3] == [0.5, 0.502, 0.504]
    assert compute_importances(ranking)["train.learning_rate"] > 0.9
    assert [figure.title for figure in slice_figures(ranking, ranking.searched)] == list(
        ranking.searched
    )


def test_trials_on_other_machines_are_listed(grid: Path) -> None:
    trials = [
        {"number": 7, "state": "COMPLETE", "overrides": ["model=bi_gru"], "host": "other"},
        {"number": 8, "state": "PRUNED", "overrides": ["model=bi_lstm"], "host": "other"},
        {"number": 9, "state": "RUNNING", "overrides": ["model=lstm"], "host": "third"},
    ]
    (grid / "sweep.json").write_text(json.dumps({"trials": trials}))
    write_leaderboards(str(grid), None, fail_to_load_split)
    markdown = (grid / "leaderboard.md").read_text()
    assert "Not in it: 2 trials of the study without a directory here." in markdown
    why = "finished; its directory is on other"
    assert f"| 0007 | elsewhere | model bi_gru | {why} |" in markdown
    why = "not finished; its directory is on third"
    assert f"| 0009 | unfinished | model lstm | {why} |" in markdown


def test_only_the_requested_runs_of_a_sweep_are_compared(tmp_path: Path) -> None:
    for number in range(4):
        write_run(tmp_path / "s" / f"000{number}", ["model=gru"], seed=number)
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
        assert records[4].reason == "finished; its directory is gone"


def test_trials_without_a_directory_are_listed_with_their_sweep(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "0000", ["model=gru"])
    write_run(tmp_path / "b" / "0000", ["model=gru", "prepare.limit=100"])
    lost = {"number": 1, "state": "COMPLETE", "overrides": [], "host": "other"}
    (tmp_path / "b" / "sweep.json").write_text(json.dumps({"trials": [lost]}))
    first, second = write_leaderboards(str(tmp_path), None, fail_to_load_split)
    assert "without a directory here" not in first.read_text()
    assert "Not in it: one trial of the study without a directory here." in second.read_text()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "sweep.json").write_text(json.dumps({"trials": [lost]}))
    with pytest.raises(UserError, match="but 1 trials whose directories are not here"):
        write_leaderboards(str(tmp_path / "c"), None, fail_to_load_split)


def test_the_objective_ranks_even_if_some_runs_lack_it(grid: Path) -> None:
    for model in ("gru", "lstm"):
        path = grid / f"{model}-1" / "metrics.json"
        metrics = json.loads(path.read_text())
        del metrics["validation"]["loss"]
        path.write_text(json.dumps(metrics))
    ranking = rank(find_records(str(grid))[0], "validation.loss")
    assert ranking.score == "loss"
    assert [len(ranking.values(one)) for one in ranking.configurations] == [2, 2]


def test_nothing_to_compare_is_one_line(tmp_path: Path, command_here: Command) -> None:
    write_run(tmp_path / "runs" / "a", [], done=False)
    for given, message in (
        (["mode=compare"], "mode=compare needs runs=DIRECTORIES"),
        (["mode=compare", "runs=nowhere/*"], "runs=nowhere/*: there is no such directory"),
        (["mode=compare", "runs=runs"], "none of the 1 runs is finished (unfinished)"),
        (["runs=runs"], "runs goes with mode=compare"),
    ):
        done = command_here(*given)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run.log").exists()


def test_no_point_dominates_one_of_the_pareto_front() -> None:
    points = [(1.0, 0.5), (2.0, 0.7), (2.0, 0.8), (3.0, 0.8), (0.5, 0.4), (4.0, 0.9)]
    assert pareto_front(points, maximize=True) == [4, 0, 2, 5]
    assert pareto_front([(1.0, 0.5), (2.0, 0.4), (3.0, 0.6)], maximize=False) == [0, 1]


def test_the_setting_that_decides_the_score_is_the_most_important(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    for place in range(24):
        width, rate = int(random.choice([8, 16, 32])), 10 ** random.uniform(-4, -2)
        write_run(
            tmp_path / "r" / str(place),
            [f"model.width={width}", f"train.learning_rate={rate}"],
            accuracy=0.9 - abs(np.log10(rate) + 3) / 4 + width / 1e4,
        )
    shares = compute_importances(rank(find_records(str(tmp_path / "r"))[0], None))
    assert next(iter(shares)) == "train.learning_rate"
    assert shares["train.learning_rate"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)


def test_hyperparameters_are_those_of_the_command_line(finished_run: FinishedRun) -> None:
    given = {"task": "sentiment", "model": "gru", "seed": 1}
    values = hyperparameters(Run(finished_run.directory), given)
    assert values["model.width"] == 6
    assert values["model"] == "gru"
    assert not [key for key in values if key.startswith(("evaluate", "export"))]
    assert list((finished_run.directory / "tensorboard").iterdir())


def test_a_run_without_an_override_has_the_default_value(tmp_path: Path) -> None:
    write_run(tmp_path / "r" / "a", [], accuracy=0.6)
    write_run(tmp_path / "r" / "b", ["train.learning_rate=0.5", "model=lstm"], accuracy=0.7)
    ranking = rank(find_records(str(tmp_path / "r"))[0], None)
    assert ranking.configurations[0].settings == {"train.learning_rate": "0.5", "model": "lstm"}
    assert ranking.configurations[1].settings == {"train.learning_rate": "0.1", "model": "gru"}
