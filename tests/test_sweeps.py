"""Sweeps: what they cover, that they end with exactly what was asked for, however they are killed.

Runs are stand-ins (fake_run.py), so that a trial takes tenths of a second; the whole of a sweep,
from the command line to the study, is real.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT, Command
from hydra import compose, initialize_config_dir

from pipelines.contracts import UserError
from pipelines.run import Run, resolved
from pipelines.schema import parse
from pipelines.sweeping.naming import sweep_name
from pipelines.sweeping.objectives import LOWER_IS_BETTER, objectives_of, values_of
from pipelines.sweeping.space import check_conditions, read_space
from pipelines.sweeping.storage import FileLock

SPACES = sorted(path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml"))


def sweep(*arguments: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """`python main.py -m` with runs that are stand-ins."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "fake_sweep.py"), "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def swept(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Exit code and all that is told."""

    def run(*arguments: str, **environment: str) -> tuple[int, str]:
        process = sweep(*arguments, folder=tmp_path, **environment)
        told, _ = process.communicate(timeout=120)
        return process.returncode, told

    return run


def summary(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("outputs/sentiment/sweep/*/sweep.json")
    return json.loads(path.read_text())


def states(folder: Path) -> Counter[str]:
    return Counter(trial["state"] for trial in summary(folder)["trials"])


def starts(folder: Path) -> list[int]:
    """By trial, how often its run was started."""
    paths = sorted(folder.glob("outputs/sentiment/sweep/*/[0-9]*/starts.txt"))
    return [len(path.read_text().splitlines()) for path in paths]


def test_a_grid_covers_every_combination_once_and_repeats_nothing(swept, tmp_path) -> None:
    code, told = swept("model.width=8,16", "seed=1,2,3")
    assert code == 0, told
    trials = summary(tmp_path)["trials"]
    assert [trial["overrides"] for trial in trials] == [
        [f"model.width={width}", f"seed={seed}"] for width in (8, 16) for seed in (1, 2, 3)
    ]
    assert trials[0]["values"] == [pytest.approx(1 - 1 / 8)]
    code, told = swept("model.width=8,16", "seed=1,2,3")
    assert code == 0, told
    assert "of which 6 are done" in told
    assert starts(tmp_path) == [1] * 6
    assert "Warning" not in told


def test_a_search_ends_with_its_total_and_goes_on_to_a_larger_one(swept, tmp_path) -> None:
    for total in (6, 6, 9):
        code, told = swept("sweep=optuna", f"sweep.trials={total}")
        assert code == 0, told
        assert sum(states(tmp_path).values()) == total
    assert starts(tmp_path) == [1] * 9
    points = {json.dumps(trial["parameters"]) for trial in summary(tmp_path)["trials"]}
    assert len(points) == 9


def test_a_search_of_few_points_visits_each_once_and_then_ends(swept, tmp_path) -> None:
    few = ["sweep.space=null", "model.width=8,16", "seed=1,2", "sweep.sampler=random"]
    code, told = swept("sweep=optuna", *few, "sweep.trials=30")
    assert code == 0, told
    points = Counter(json.dumps(t["parameters"]) for t in summary(tmp_path)["trials"])
    assert len(points) == 4
    assert set(points.values()) == {1}


def test_two_at_a_time_share_the_cores_and_give_the_same_study(swept, tmp_path) -> None:
    code, told = swept("model.width=8,16", "seed=1,2,3", "sweep.parallel=2")
    assert code == 0, told
    assert states(tmp_path) == {"COMPLETE": 6}
    assert starts(tmp_path) == [1] * 6
    (metrics, *_) = tmp_path.glob("outputs/sentiment/sweep/*/0000/metrics.json")
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert json.loads(metrics.read_text())["threads"] == str(threads)


def test_failures_are_recorded_with_their_reason_and_the_sweep_goes_on(swept, tmp_path) -> None:
    code, told = swept("seed=1,13,14,16,2,3", "sweep.name=bad")
    assert code == 0, told
    trials = summary(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == [
        "COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE",
    ]  # fmt: skip
    assert trials[1]["reason"] == "this seed brings no luck"
    assert "killed" in trials[2]["reason"]
    # What was killed goes on once.
    assert [trials[2]["attempts"], trials[3]["attempts"]] == [2, 2]
    code, told = swept("seed=1,13,14,16,2,3", "sweep.name=bad", "sweep.retry=true")
    assert "2 failed trials are tried anew" in told
    assert len(summary(tmp_path)["trials"]) == 6


def test_a_run_that_takes_too_long_has_failed(swept, tmp_path) -> None:
    code, told = swept("seed=15,1", "sweep.run_seconds=1")
    assert code == 0, told
    assert "took longer than 1.0 s" in summary(tmp_path)["trials"][0]["reason"]
    assert states(tmp_path) == {"FAIL": 1, "COMPLETE": 1}


def test_a_run_that_takes_too_much_memory_has_failed(swept, tmp_path) -> None:
    code, told = swept("seed=15,1", "sweep.run_gigabytes=0.0001", "sweep.failures=1.0")
    assert code == 0, told
    assert "took more than 0.0001 GB" in summary(tmp_path)["trials"][0]["reason"]


def test_too_many_failures_end_the_sweep_in_one_line(swept, tmp_path) -> None:
    code, told = swept("seed=13,14,1,2", "sweep.failures=0.25")
    assert code == 1
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert "2 of 4 trials have failed" in line
    assert "Traceback" not in told


def test_what_is_worse_than_the_median_is_pruned(swept, tmp_path) -> None:
    space = ["sweep.space=null", "train.learning_rate=0.001,0.0011,0.0012,0.0013,0.1,0.0001"]
    code, told = swept(
        "sweep=grid", *space, "sweep.pruner=median", "sweep.prune_after=2", "train.epochs=8",
        FAKE_SECONDS="0.15",
    )  # fmt: skip
    assert code == 0, told
    by_rate = {t["parameters"]["train.learning_rate"]: t for t in summary(tmp_path)["trials"]}
    assert by_rate["0.001"]["state"] == "COMPLETE"
    assert by_rate["0.1"]["state"] == by_rate["0.0001"]["state"] == "PRUNED"
    assert by_rate["0.1"]["seconds"] < by_rate["0.001"]["seconds"]


def test_hyperband_prunes_too(swept, tmp_path) -> None:
    code, told = swept(
        "sweep=optuna", "sweep.pruner=hyperband", "sweep.trials=10", "train.epochs=9",
        "sweep.sampler=random", FAKE_SECONDS="0.1",
    )  # fmt: skip
    assert code == 0, told
    assert states(tmp_path)["PRUNED"] > 0
    assert sum(states(tmp_path).values()) == 10


def test_settings_without_effect_are_not_drawn(swept, tmp_path) -> None:
    code, told = swept("sweep=cells", "sweep.trials=12", "sweep.sampler=random")
    assert code == 0, told
    for trial in summary(tmp_path)["trials"]:
        drawn = trial["parameters"]
        assert ("model.activation" in drawn) == drawn["model"].endswith("simple_rnn")
        assert ("model.dropout" in drawn) == (drawn["model.layers"] == "2")


def test_several_objectives_each_have_a_value(swept, tmp_path) -> None:
    code, told = swept("sweep=quality_and_speed", "sweep.trials=4")
    assert code == 0, told
    for trial in summary(tmp_path)["trials"]:
        accuracy, milliseconds = trial["values"]
        assert accuracy < 1
        assert milliseconds == pytest.approx(float(trial["parameters"]["model.width"]) / 10)


def test_two_sweeps_at_once_work_on_one_study(swept, tmp_path) -> None:
    arguments = ["sweep=optuna", "sweep.trials=8", "sweep.sampler=random"]
    both = [sweep(*arguments, folder=tmp_path) for _ in range(2)]
    for process in both:
        told, _ = process.communicate(timeout=120)
        assert process.returncode == 0, told
    assert len(summary(tmp_path)["trials"]) == 8
    assert set(starts(tmp_path)) == {1}


def test_a_database_serves_as_well_as_a_file(swept, tmp_path) -> None:
    storage = f"sweep.storage=sqlite:///{tmp_path}/study.db"
    for total in (3, 5):
        code, told = swept("sweep=optuna", f"sweep.trials={total}", storage)
        assert code == 0, told
        assert sum(states(tmp_path).values()) == total
    assert starts(tmp_path) == [1] * 5


def test_two_places_share_a_database_and_count_each_trial_once(tmp_path: Path) -> None:
    arguments = ["sweep=optuna", "sweep.trials=8", "sweep.name=shared", "sweep.pruner=none"]
    folders = [tmp_path / "a", tmp_path / "b"]
    storage = f"sweep.storage=sqlite:///{tmp_path}/study.db"
    for folder in folders:
        folder.mkdir()
    both = [sweep(*arguments, storage, folder=folder, FAKE_SECONDS="0.2") for folder in folders]
    for process in both:
        told, _ = process.communicate(timeout=120)
        assert process.returncode == 0, told
    done = [len(starts(folder)) for folder in folders]
    assert sum(done) == 8
    assert min(done) > 0
    assert [set(starts(folder)) for folder in folders] == [{1}, {1}]


def test_when_its_time_is_over_no_more_trials_start_and_the_command_goes_on(
    swept, tmp_path
) -> None:
    code, told = swept("seed=1,2,3,4", "sweep.seconds=0.1", FAKE_SECONDS="0.3")
    assert code == 0, told
    assert "are over: no more trials are started" in told
    assert len(starts(tmp_path)) < 4
    code, told = swept("seed=1,2,3,4")
    assert states(tmp_path) == {"COMPLETE": 4}


def test_a_password_is_not_told(command_here: Command, tmp_path: Path) -> None:
    done = command_here("-m", "sweep.storage=nosuch://me:secret@host/db", "seed=1,2")
    assert done.returncode == 1
    assert "nosuch://me:***@host/db can't be used" in done.stderr
    assert "secret" not in done.stderr


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def runs_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Those of its processes that lead a group of their own: runs do, their server does not."""
    return [one for one in children_of(process) if os.getpgid(one.pid) == one.pid]


def alive(runs: list[psutil.Process]) -> list[psutil.Process]:
    return [run for run in runs if run.is_running() and run.status() != "zombie"]


def test_runs_end_with_a_sweep_that_is_killed(tmp_path: Path) -> None:
    process = sweep("seed=15", "model.width=8,16", "sweep.parallel=2", folder=tmp_path)
    wait_for(lambda: len(starts(tmp_path)) == 2)
    runs = runs_of(process)
    process.kill()
    assert len(runs) == 2
    wait_for(lambda: not alive(runs))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_while_the_server_starts_is_a_line(
    tmp_path: Path, number: int
) -> None:
    process = sweep("seed=1,2", folder=tmp_path, SLOW_IMPORT="2")
    wait_for(lambda: children_of(process))
    time.sleep(0.5)
    os.killpg(process.pid, number)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, told
    assert "Traceback" not in told


def test_asked_twice_runs_are_not_waited_for(tmp_path: Path) -> None:
    process = sweep("seed=17", folder=tmp_path)  # takes its time to end
    wait_for(lambda: starts(tmp_path))
    runs = runs_of(process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert alive(runs)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGINT, told
    wait_for(lambda: not alive(runs))


def test_runs_find_imported_what_takes_long(tmp_path: Path) -> None:
    script, found = tmp_path / "script.py", tmp_path / "found.json"
    script.write_text(
        "import json, pathlib, sys\n"
        f"pathlib.Path({str(found)!r}).write_text(json.dumps(sorted(sys.modules)))\n"
    )
    starter = tmp_path / "starter.py"
    starter.write_text(
        "import time\n"
        "from pathlib import Path\n"
        "from pipelines.sweeping import processes\n"
        "if __name__ == '__main__':\n"
        f"    processes.SCRIPT, folder = Path({str(script)!r}), Path({str(tmp_path)!r})\n"
        "    run = processes.RunProcess([], folder / 'run', folder / 'log', parallel=1)\n"
        "    while not run.ended():\n"
        "        time.sleep(0.1)\n"
        "    assert run.returncode == 0, (folder / 'log').read_text()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(starter)], check=True, env=environment, timeout=120)
    modules = set(json.loads(found.read_text()))
    assert {"tensorflow", "keras", "hydra", "pipelines.train", "pipelines.comparison"} <= modules


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_ends_its_runs_and_the_same_command_goes_on(
    tmp_path: Path, signal_number: int
) -> None:
    arguments = ["model.width=8,16", "seed=1,2", "sweep.parallel=2"]
    process = sweep(*arguments, folder=tmp_path, FAKE_SECONDS="0.5")
    wait_for(lambda: starts(tmp_path))
    runs = runs_of(process)
    process.send_signal(signal_number)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal_number, told
    assert "The same command goes on." in told
    assert "Traceback" not in told
    assert runs
    assert not alive(runs)
    told, _ = sweep(*arguments, folder=tmp_path).communicate(timeout=60)
    assert states(tmp_path) == {"COMPLETE": 4}, told


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never got so far")


@pytest.mark.parametrize(
    "way",
    [
        ["model.width=4,8,16,32", "seed=1,2"],
        ["sweep=optuna", "sweep.trials=8", "sweep.pruner=none"],
    ],
)
def test_killed_at_random_moments_nothing_is_lost_and_nothing_repeated(
    tmp_path: Path, way: list[str]
) -> None:
    moments = random.Random(len(way))
    arguments = [*way, "sweep.parallel=2", "train.epochs=4"]
    for _ in range(3):
        process = sweep(*arguments, folder=tmp_path, FAKE_SECONDS="0.15")
        before = len(starts(tmp_path))
        more = lambda b=before, p=process: len(starts(tmp_path)) > b or p.poll() is not None  # noqa: E731
        wait_for(more)
        time.sleep(moments.uniform(0.0, 1.0))
        runs = runs_of(process)
        process.kill()
        process.communicate()
        wait_for(lambda these=runs: not alive(these))
    told, _ = sweep(*arguments, folder=tmp_path).communicate(timeout=120)
    trials = summary(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 8, told
    assert [trial["number"] for trial in trials] == list(range(8))
    assert len({json.dumps(trial["parameters"]) for trial in trials}) == 8
    for path in tmp_path.glob("outputs/sentiment/sweep/*/[0-9]*/history.jsonl"):
        epochs = [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
        assert epochs == [1, 2, 3, 4]  # gone on with, not begun again
    # A run is started once, and once more for each time that the sweep was killed under it.
    assert sum(starts(tmp_path)) <= 8 + 2 * 3


def test_runs_that_are_killed_go_on_and_the_total_is_exact(tmp_path: Path) -> None:
    arguments = ["sweep=optuna", "sweep.trials=6", "sweep.pruner=none", "train.epochs=4"]
    process = sweep(*arguments, folder=tmp_path, FAKE_SECONDS="0.2")
    killed = set()
    while process.poll() is None and len(killed) < 3:
        for run in runs_of(process):
            if run.pid not in killed:
                time.sleep(0.3)
                run.send_signal(signal.SIGKILL) if run.is_running() else None
                killed.add(run.pid)
        time.sleep(0.05)
    told, _ = process.communicate(timeout=120)
    trials = summary(tmp_path)["trials"]
    assert len(trials) == 6, told
    assert all(trial["state"] == "COMPLETE" or "killed" in trial["reason"] for trial in trials)


def test_a_sweep_goes_on_without_the_server_that_starts_its_runs(tmp_path: Path) -> None:
    process = sweep("seed=1,2", "train.epochs=4", folder=tmp_path, FAKE_SECONDS="0.2")
    wait_for(lambda: starts(tmp_path))
    (run,) = runs_of(process)
    server = run.parent()
    assert server is not None
    server.kill()
    told, _ = process.communicate(timeout=120)
    assert states(tmp_path) == {"COMPLETE": 2}, told
    assert sum(starts(tmp_path)) == 3


def test_another_question_under_the_same_name_is_refused(swept, tmp_path) -> None:
    code, told = swept("sweep.name=one", "model.width=8,16")
    assert code == 0, told
    for other, what in (
        (["model.width=8,32"], "values of model.width"),
        (["model.width=8,16", "train.epochs=5"], "settings (train.epochs=5)"),
        (["model.width=8,16", "sweep.objectives=[validation.loss]"], "objectives"),
    ):
        code, told = swept("sweep.name=one", *other)
        assert code == 1
        assert f"holds a sweep with other {what}" in told
        assert "choose another sweep.name" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["model=gru,lstmx"], "model=lstmx: no such option; did you mean 'lstm'"),
        (["model.widht=1,2"], "model.widht: there is no such setting; did you mean model.width?"),
        (["train.epochs=1,x"], "train.epochs: must be a valid integer; received 'x'"),
        (["model=gru,simple_rnn", "model.activation=relu"], "goes with simple_rnn; gru"),
        (["sweep.trails=3"], "did you mean sweep.trials"),
        (["sweep=optunna"], "sweep=optunna: no such option; did you mean 'optuna'?"),
        (["train.learning_rate=interval(0.1,0.2)"], "a grid needs single values"),
        (["sweep=optuna", "model.width=interval(8,2)"], "an interval needs low < high"),
        (["sweep=optuna", "train.learning_rate=tag(log,interval(0,1))"], "0 < low < high"),
        (["sweep=optuna", "model.width=interval(8,16)"], "model.width: must be a valid integer"),
        (["sweep=optuna", "sweep.objectives=[acuracy]"], "acuracy: no such objective"),
        (["sweep=optuna", "sweep.objectives=[test.accuracy]"], "looks at the test split"),
        (["sweep=optuna", "sweep.objectives=[quality,seconds]"], "use sweep.pruner=none"),
        (["sweep=optuna", "sweep.trials=null"], "sweep.sampler=tpe needs their number"),
        (["sweep=optuna", "sweep.storage=nosuch://x"], "sweep.storage=nosuch://x can't be used"),
        (["run=somewhere"], "a sweep is of new runs: leave out mode and run"),
    ],
)
def test_a_mistake_is_one_line_before_the_first_trial(
    command_here: Command, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = command_here("-m", *arguments)
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("outputs/sentiment/sweep/*/0*"))


def test_sweep_settings_without_a_sweep_are_a_mistake(command_here) -> None:
    done = command_here("sweep=optuna")
    assert done.stderr == "error: sweep goes with several runs: python main.py -m ...\n"


@pytest.mark.parametrize("option", SPACES)
@pytest.mark.parametrize("task", ["sentiment", "translation", "captioning"])
def test_every_space_composes_at_every_value(option: str, task: str) -> None:
    if option == "rotten_tomatoes" and task != "sentiment":
        pytest.skip("of sentences only")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        chosen = [f"task={task}", f"sweep={option}"]
        base = resolved(compose("config", chosen))
        settings = parse(base).sweep
        space = read_space(settings.space or {}, [f"task={task}"], settings.each)

        def setting(key: str) -> str:
            return "gru" if key == "model" else str(value_at(base, key)).lower()

        check_conditions(space, ["model", "model.layers"])
        for point in space.samples(setting):
            parse(resolved(compose("config", [*chosen, *space.overrides(point)])))
    objectives_of(settings.objectives, parse(base).task, None)


def value_at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def space_of(listed: dict[str, Any], *arguments: str):
    return read_space(listed, arguments, [])


def test_the_command_line_adds_to_a_space_replaces_and_fixes() -> None:
    listed = {"model.width": "choice(8, 16)", "seed": "range(1, 4)", "train.epochs": "choice(1, 2)"}
    space = space_of(listed, "model.width=tag(log, int(interval(4, 64)))", "seed=7", "+x=1,2")
    assert [parameter.key for parameter in space.parameters] == ["train.epochs", "model.width", "x"]
    width = space.parameters[1]
    assert (width.low, width.high, width.log, width.whole) == (4, 64, True, True)
    assert space.fixed == ("seed=7",)
    assert space.overrides({"x": "1", "model.width": 5}) == ["seed=7", "+x=1", "model.width=5"]


def test_ranges_end_where_hydra_ends_them_and_numbers_are_round() -> None:
    space = space_of({}, "a=range(0.1,0.5,0.1)", "b=range(1,9,3)")
    points = space.points(lambda key: "")
    assert sorted({point["a"] for point in points}) == [0.1, 0.2, 0.3, 0.4]
    assert sorted({point["b"] for point in points}) == [1, 4, 7]


def test_conditions_may_be_on_what_is_fixed_and_on_each_other() -> None:
    listed = {
        "c": {"values": "choice(1, 2)", "when": {"b": True}},
        "b": {"values": "choice(true, false)", "when": {"model": ["gru", "lstm"]}},
    }
    space = space_of(listed)
    assert [parameter.key for parameter in space.parameters] == ["b", "c"]
    assert space.points(lambda key: "simple_rnn") == [{}]
    assert space.points(lambda key: "lstm") == [
        {"b": "true", "c": "1"}, {"b": "true", "c": "2"}, {"b": "false"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ({"a": "3"}, "values to choose from are needed"),
        ({"a": "choice("}, "can't be read"),
        ({"a": {"values": "choice(1,2)", "when": {"b": 1}}}, "there is no such setting"),
        (
            {"b": "choice(x, y)", "a": {"values": "choice(1,2)", "when": {"b": "z"}}},
            "'z' is no value; choices: x, y",
        ),
        (
            {
                "a": {"values": "choice(1,2)", "when": {"b": 1}},
                "b": {"values": "choice(1,2)", "when": {"a": 1}},
            },
            "go round in a circle",
        ),
    ],
)
def test_a_space_that_cannot_be_is_told(listed: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        check_conditions(space_of(listed), ["model"])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_sweeps_name_goes_by_what_is_asked_not_by_how() -> None:
    asked = ["model=gru,lstm", "seed=1,2"]
    name = sweep_name(None, "grid", asked)
    assert name == sweep_name(None, "grid", [*asked[::-1], "sweep.parallel=2", "sweep.trials=9"])
    assert name != sweep_name(None, "grid", ["model=gru,lstm", "seed=1,3"])
    assert sweep_name("mine", "grid", asked) == "mine"


def test_errors_are_minimized_as_the_scores_say_themselves(finished) -> None:
    metrics = json.loads((finished.directory / "metrics.json").read_text())
    for name, entry in metrics["validation"].items():
        assert entry["higher_is_better"] == (name not in LOWER_IS_BETTER)
    run = Run(finished.directory)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        task = parse(resolved(compose("config", []))).task
    found = objectives_of(
        ["quality", "parameters", "milliseconds", "seconds", "memory"], task, None
    )
    values = values_of(run, found)
    assert values is not None
    assert values[0] == metrics["validation"]["accuracy"]["value"]
    assert values[1] == metrics["parameters"]["total"]
    assert values[2] == metrics["latency"]["milliseconds"] > 0


def test_half_a_line_at_the_end_of_a_journal_is_removed(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    journal.write_bytes(b'{"a": 1}\n{"b": 2}\n{"c"')
    lock = FileLock(journal)
    lock.acquire()
    lock.release()
    assert journal.read_bytes() == b'{"a": 1}\n{"b": 2}\n'


@pytest.mark.slow
def test_real_runs_end_in_a_leaderboard(quick: list[str], command: Command, tmp_path: Path) -> None:
    done = command("-m", *quick, "model=gru,simple_rnn", "seed=1,2", "sweep.parallel=2")
    assert done.returncode == 0, done.stderr
    (directory,) = tmp_path.glob("outputs/sentiment/sweep/grid-*")
    found = json.loads((directory / "leaderboard.json").read_text())
    assert [len(one["runs"]) for one in found["configurations"]] == [2, 2]
    assert len(found["differences"]) == 1
    assert all(cost for one in found["configurations"] for cost in one["costs"].values())
    assert found["train"].endswith("experiment=winner")
    (metrics, *_) = directory.glob("0*/metrics.json")
    value = json.loads(metrics.read_text())["validation"]["accuracy"]["value"]
    assert summary(tmp_path)["trials"][int(metrics.parent.name)]["values"] == [value]
    assert "was prepared" not in done.stderr
    reused = [path.read_text().count("reused") for path in directory.glob("logs/*.log")]
    assert sum(reused) == 3  # of four runs, one has prepared the data


@pytest.mark.slow
def test_a_real_run_that_is_killed_with_its_sweep_goes_on_from_its_checkpoint(
    quick: list[str], command: Command, tmp_path: Path
) -> None:
    arguments = ["-m", *quick, "seed=1,2", "train.epochs=60", "train.checkpoint_seconds=0.5"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *arguments], cwd=tmp_path, stderr=subprocess.PIPE
    )
    wait_for(lambda: list(tmp_path.glob("outputs/sentiment/sweep/*/0000/checkpoints/last.npz")))
    process.kill()
    process.communicate()
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert states(tmp_path) == {"COMPLETE": 2}
    (log, *_) = sorted(tmp_path.glob("outputs/sentiment/sweep/*/logs/*.log"))
    assert "Going on at epoch" in log.read_text()
