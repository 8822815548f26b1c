"""Every option composes; every mistake is one line, found before TensorFlow is imported."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NamedTuple

import pytest
from conftest import Command
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import TypeAdapter
from pydantic.dataclasses import is_pydantic_dataclass

from pipelines import tasks
from pipelines.config.quoting import quote_free_text
from pipelines.config.restore import load_run_config, save_config, to_plain_values
from pipelines.config.schema import parse
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.data import sources
from pipelines.runs.directory import Run

CONF = ROOT / "conf"
OPTIONS = sorted(
    f"{path.parent.relative_to(CONF)}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != "hydra"
)


def composed(*overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_plain_values(compose("config", list(overrides)))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_composes_and_has_the_right_types(option: str) -> None:
    searches = option.startswith("decode=") and option != "decode=none"
    parse(composed(option, *(["task=translation"] if searches else [])))


@pytest.mark.parametrize("model", [o for o in OPTIONS if o.startswith("model=")])
def test_a_models_name_says_its_cell_and_direction(model: str) -> None:
    name = model.removeprefix("model=")
    settings = parse(composed(model)).model
    assert ("bi_" if settings.bidirectional else "") + settings.cell == name


def test_a_task_brings_its_data_and_an_explicit_choice_wins() -> None:
    assert parse(composed("task=sentiment")).data.name == "imdb"
    assert parse(composed("task=sentiment", "data=rotten_tomatoes")).data.name == "rotten_tomatoes"
    assert parse(composed("data=rotten_tomatoes", "task=sentiment")).data.name == "rotten_tomatoes"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=three", "train.epochs: must be a valid integer; received 'three'"),
        ("task.name=[a]", "task.name: no such task: ['a']"),
        ("data.format={a:1}", "data.format: no such data: {'a': 1}"),
        ("decode.strategy=[1]", "decode.strategy: no such strategy: [1]"),
        (f"seed={10**40}", "seed: must be a whole number from 0 to 9223372036854775807"),
        (f"model.width={10**12}", "model.width: must be less than or equal to 65536"),
        (f"evaluate.resamples={10**15}", "evaluate.resamples: must be less than or equal to"),
        (f"task.text.max_tokens={10**15}", "task.text.max_tokens: must be less than or equal to"),
        ("train.learning_rate=inf", "train.learning_rate: must be a finite number"),
        ("train.epochs=0", "train.epochs: must be greater than or equal to 1; received 0"),
        ("train.epochs=2.5", "train.epochs: must be a valid integer; received 2.5"),
        ("train.learning_rate=0", "train.learning_rate: must be greater than 0; received 0"),
        ("model.residual=1", "model.residual: must be a valid boolean; received 1"),
        ("model.dropout=1.0", "model.dropout: must be less than 1; received 1.0"),
        (
            "train.optimizer=adm",
            "train.optimizer: must be one of adam, adamw, sgd",
        ),
        ("task.text.tokens=wrd", "did you mean 'word'?"),
        ("+train.epoch=3", "train.epoch: there is no such setting; did you mean 'epochs'?"),
        (
            "+task.text.token=word",
            "task.text.token: there is no such setting; did you mean 'tokens'",
        ),
        ("+epochs=3", "epochs: there is no such setting"),
        ("mode=trian", "mode: no such mode: 'trian'; did you mean 'train'?"),
        ("seed=-1", "seed: must be a whole number from 0 to 9223372036854775807; received -1"),
        ("seed=one", "seed: must be a whole number"),
        ("task.name=sentimnt", "did you mean 'sentiment'?"),
    ],
)
def test_a_value_that_cannot_be_is_reported_with_its_place(override: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse(composed(override))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def settings_classes() -> list[type]:
    """The classes of all settings: of stages, models, tasks and sources."""
    parts = (tasks, sources)
    names = [f"{part.__name__}.{m.name}" for part in parts for m in iter_modules(part.__path__)]
    modules = map(importlib.import_module, ["models.settings", "pipelines.core.settings", *names])
    classes = {cls for module in modules for cls in vars(module).values() if isinstance(cls, type)}
    found = [cls for cls in classes if is_pydantic_dataclass(cls) and not inspect.isabstract(cls)]
    return sorted(found, key=lambda cls: cls.__name__)


def unbounded(schema: Any, place: str = "") -> Iterator[str]:
    """Where a JSON schema takes whole numbers of any size."""
    if isinstance(schema, list):
        for part in schema:
            yield from unbounded(part, place)
    elif isinstance(schema, dict):
        if schema.get("type") == "integer":
            limits = [{"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}]
            if any(names.isdisjoint(schema) for names in limits):
                yield place
        for name, part in schema.items():
            yield from unbounded(part, f"{place}.{name}")


def test_every_whole_number_among_the_settings_has_a_range() -> None:
    classes = settings_classes()
    assert len(classes) > 20
    found = [
        f"{cls.__name__}{place}"
        for cls in classes
        for place in unbounded(TypeAdapter(cls).json_schema())
    ]
    # What a sweep tries is checked by the settings that it sets.
    assert [place for place in found if ".space." not in place] == []


def test_a_run_saved_under_former_names_keeps_its_values(tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    save_config(run, composed("train.ema_decay=0.7", "train.accumulation_steps=3"))
    text = run.config.read_text().replace("ema_decay", "average")
    run.config.write_text(text.replace("accumulation_steps", "accumulate"))
    train = load_run_config(run, composed())["train"]
    assert (train["ema_decay"], train["accumulation_steps"]) == (0.7, 3)
    assert "average" not in train


COMMANDS = """
import json, sys
from conftest import main_here
for number, arguments in enumerate(json.load(sys.stdin)):
    result = main_here(*arguments, f"hydra.run.dir=run{number}", folder=sys.argv[1])
    print(json.dumps([result.returncode, result.stderr, "tensorflow" in sys.modules]))
"""


class Outcome(NamedTuple):
    """A command's exit code and standard error, and whether TensorFlow is imported after it."""

    returncode: int
    stderr: str
    has_tensorflow: bool


def run_commands(commands: list[list[str]], folder: Path) -> list[Outcome]:
    """Runs main.py with the arguments of each, one after the other, in one fresh process."""
    paths = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/support")]
    result = subprocess.run(
        [sys.executable, "-c", COMMANDS, str(folder)],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return [Outcome(*json.loads(line)) for line in result.stdout.splitlines()]


MISTAKES: list[tuple[list[str], str]] = [
    (["modl=gru"], "modl: there is no such setting; did you mean model"),
    (["model=grux"], "model=grux: no such option; did you mean 'gru'"),
    (["train.epochs"], "train.epochs needs a value: train.epochs=VALUE"),
    (["task.embedding={widht:3}"], "task.embedding.widht: there is no such setting; did you"),
    (["train.epoch=3"], "train.epoch: there is no such setting; did you mean train.epochs?"),
    (["epochs=3"], "did you mean train.epochs?"),
    (["train.average=0.9"], "error: train.average is now called train.ema_decay"),
    (["task=captioning", "data.pictures=a"], "error: data.pictures is now called data.images"),
    (["data=nothing"], "data=nothing: no such option; choices: "),
    (["train.epochs=[1"], "no viable alternative"),
    (["train.epochs=many"], "train.epochs: must be a valid integer"),
    (["data=text_files", "data.path=no/such.csv"], "no/such.csv"),
    (["task=null"], "Config group override must be a string"),
    (["mode=evaluate"], "mode=evaluate needs run=DIRECTORY"),
    (["mode=evaluate", "run=no/such"], "run=no/such is not a run's directory"),
    (["input=hello"], "input and output go with mode=predict"),
    (["train.monitor=acuracy"], "did you mean 'accuracy'?"),
    (["model.activation=relu"], "model.activation goes with simple_rnn"),
    (["evaluate.against=no/such"], "evaluate.against=no/such is not a run's directory"),
    (["train.weight_decay=0.1"], "train.weight_decay goes with adamw"),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """Of each mistake, and of --help. Nothing is written."""
    folder = tmp_path_factory.mktemp("commands")
    found = run_commands([*(arguments for arguments, _ in MISTAKES), ["--help"]], folder)
    assert not list(folder.iterdir())
    return found


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=lambda n: str(MISTAKES[n][0]))
def test_a_mistake_is_one_line_before_tensorflow(number: int, outcomes: list[Outcome]) -> None:
    outcome, message = outcomes[number], MISTAKES[number][1]
    assert outcome.returncode == 1
    assert message in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not outcome.has_tensorflow


def test_help_imports_no_tensorflow(outcomes: list[Outcome]) -> None:
    assert outcomes[-1].returncode == 0, outcomes[-1].stderr
    assert not outcomes[-1].has_tensorflow


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n")))
def test_any_input_text_survives_the_command_line(text: str) -> None:
    argument = quote_free_text(f"input={text}")
    override = OverridesParser.create().parse_override(argument)
    config = OmegaConf.create({"input": override.value()})
    expected = None if text == "null" else text
    assert config.input == expected or (text == "" and config.input in ("", None))


@pytest.mark.parametrize(
    "path", ["a b.csv", "a,b.csv", "a=b.csv", "é'x.csv", "[1].csv", "a${b}.csv"]
)
def test_a_path_needs_no_quoting_for_hydra(path: str) -> None:
    override = OverridesParser.create().parse_override(quote_free_text(f"data.path={path}"))
    assert OmegaConf.create({"path": override.value()}).path == path
    assert quote_free_text("data.path=plain/file-1.csv") == "data.path=plain/file-1.csv"


def test_hydra_composes_once(command_here: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    compose = Hydra.compose_config

    def counted(*arguments: Any, **more: Any) -> Any:
        composed.append(more.get("run_mode"))
        return compose(*arguments, **more)

    monkeypatch.setattr(Hydra, "compose_config", counted)
    assert "epochs" in command_here("train.epochs=many").stderr
    assert len(composed) == 1


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["task=captioning", "decode=none"], "none does not go with task=captioning: choose"),
        (["task=translation", "decode=none"], "none does not go with task=translation: choose"),
        (["decode=beam"], "beam does not go with task=sentiment: use decode=none"),
    ],
)
def test_a_search_must_go_with_the_task(overrides: list[str], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        parse(composed(*overrides))


def test_a_sweep_is_a_grid_unless_it_is_told_otherwise() -> None:
    assert composed()["sweep"]["sampler"] == "grid"
