"""A mistake in a sweep is one line, before the first trial."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Command


def test_passwords_are_not_printed(command_here: Command, tmp_path: Path) -> None:
    result = command_here("-m", "sweep.storage=nosuch://me:secret@host/db", "seed=1,2")
    assert result.returncode == 1
    assert "must hold no password" in result.stderr
    assert "nosuch://me:***@host/db" in result.stderr
    assert "secret" not in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["nosuch://me:secret@host/db", "postgresql:/me:secret@secret/db"])
def test_a_database_that_cannot_be_used_is_named_by_its_setting(
    url: str, command_here: Command, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(url)
    result = command_here("-m", f"sweep.storage={tmp_path}/url", "seed=1,2")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"sweep.storage={tmp_path}/url can't be used: " in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("arguments", "output"),
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
        (["sweep.storage=NOSUCH"], "name an environment variable or a readable file that holds"),
        (["sweep=optuna", "sweep.storage=nosuch://x"], "sweep.storage=nosuch://x can't be used"),
        (
            ["+sweep.space={model:{values:'choice(gru,lstm)'}}"],
            "sweep.space.model: values with a condition are",
        ),
        (["sweep.space={model:'choice(gru,lstm)'}"], "added with a plus: +sweep.space=..."),
        (["run=somewhere"], "a sweep is of new runs: leave out mode and run"),
    ],
)
def test_a_mistake_is_one_line_before_the_first_trial(
    command_here: Command, tmp_path: Path, arguments: list[str], output: str
) -> None:
    result = command_here("-m", *arguments)
    assert result.returncode == 1
    assert output in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("outputs/sentiment/sweep/*/0*"))


@pytest.mark.parametrize(
    ("old", "new"), [("sweep.each=[]", "sweep.fixed"), ("sweep.first=given", "sweep.start_from")]
)
def test_a_renamed_setting_answers_with_its_new_name(
    command_here: Command, old: str, new: str
) -> None:
    result = command_here("-m", "seed=1,2", old)
    assert result.returncode == 1
    assert result.stderr == f"error: {old.partition('=')[0]} is now called {new}\n"


@pytest.mark.parametrize("value", ["given", "drawn"])
def test_a_former_value_of_start_from_answers_with_the_choices(
    command_here: Command, value: str
) -> None:
    result = command_here("-m", "seed=1,2", f"sweep.start_from={value}")
    assert result.returncode == 1
    message = f"must be one of defaults, random; received {value!r}"
    assert result.stderr == f"error: sweep.start_from: {message}\n"


def test_sweep_settings_without_a_sweep_are_a_mistake(command_here) -> None:
    result = command_here("sweep=optuna")
    assert result.stderr == "error: sweep goes with several runs: python main.py -m ...\n"
