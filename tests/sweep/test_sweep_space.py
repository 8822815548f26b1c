"""Spaces in YAML and on the command line, their points, and the names of sweeps."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from pipelines.config.restore import to_plain_values
from pipelines.config.schema import parse
from pipelines.config.sweep_name import sweep_name
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.sweep.objectives import resolve_objectives
from pipelines.sweep.overrides import create_lookup, format_value
from pipelines.sweep.space import check_conditions
from pipelines.sweep.space_parser import parse_space

SPACES = sorted(path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml"))


@pytest.mark.parametrize(
    ("option", "task"),
    [
        (option, task)
        for task in ("sentiment", "translation", "captioning")
        for option in SPACES
        if option != "rotten_tomatoes" or task == "sentiment"
    ],
)
def test_every_space_composes_at_every_value(option: str, task: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        chosen = [f"task={task}", f"sweep={option}"]
        base = to_plain_values(compose("config", chosen))
        settings = parse(base).sweep
        space = parse_space(settings.space or {}, [f"task={task}"], settings.fixed)
        lookup = create_lookup(base, {"model": "gru"})
        check_conditions(space, ["model", "model.layers"])
        for point in space.covering_points(lookup):
            parse(to_plain_values(compose("config", [*chosen, *space.overrides_at(point)])))
    resolve_objectives(settings.objectives, parse(base).task, None)


def space_of(listed: dict[str, Any], *arguments: str):
    return parse_space(listed, arguments, [])


def test_the_command_line_adds_replaces_and_fixes_parameters() -> None:
    listed = {"model.width": "choice(8, 16)", "seed": "range(1, 4)", "train.epochs": "choice(1, 2)"}
    space = space_of(listed, "model.width=tag(log, int(interval(4, 64)))", "seed=7", "+x=1,2")
    assert [parameter.key for parameter in space.parameters] == ["train.epochs", "model.width", "x"]
    width = space.parameters[1]
    assert (width.low, width.high, width.log, width.is_integer) == (4, 64, True, True)
    assert space.fixed == ("seed=7",)
    assert space.overrides_at({"x": "1", "model.width": 5}) == ["seed=7", "+x=1", "model.width=5"]


def test_ranges_end_where_hydra_ends_them_and_numbers_are_rounded() -> None:
    space = space_of({}, "a=range(0.1,0.5,0.1)", "b=range(1,9,3)")
    points = space.grid_points(lambda key: "")
    assert sorted({point["a"] for point in points}) == [0.1, 0.2, 0.3, 0.4]
    assert sorted({point["b"] for point in points}) == [1, 4, 7]


def test_conditions_may_name_fixed_settings_and_other_parameters() -> None:
    listed = {
        "c": {"values": "choice(1, 2)", "when": {"b": True}},
        "b": {"values": "choice(true, false)", "when": {"model": ["gru", "lstm"]}},
    }
    space = space_of(listed)
    assert [parameter.key for parameter in space.parameters] == ["b", "c"]
    assert space.grid_points(lambda key: "simple_rnn") == [{}]
    assert space.grid_points(lambda key: "lstm") == [
        {"b": "true", "c": "1"}, {"b": "true", "c": "2"}, {"b": "false"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "setting", "value"),
    [
        ("choice(8, 16)", "16", "16"),
        ("choice(8, 16)", "12", None),
        ("choice(gru, lstm)", "lstm", "lstm"),
        ("choice(0.01, 0.001)", "1e-3", "0.001"),
        ("null, 3", "null", "null"),
        ("interval(0.0, 0.5)", "0.5", 0.5),
        ("interval(0.0, 0.5)", "0.6", None),
        ("interval(0.0, 0.5)", "null", None),
        ("choice([32,64], [8])", "[32, 64]", "[32,64]"),
        ("choice('a b', c)", "a b", r"a\ b"),
        ("tag(log, int(interval(8, 128)))", "64", 64),
        ("int(interval(8, 128))", "7", None),
        ("range(0.1, 0.5, 0.1)", "0.3", 0.3),
        ("range(0.1, 0.5, 0.1)", "0.35", None),
        ("range(1, 9, 3)", "4", 4),
        ("range(1, 9, 3)", "5", None),
    ],
)
def test_the_default_point_has_the_settings_that_the_space_contains(
    values: str, setting: str, value: Any
) -> None:
    space = space_of({"a": values, "b": "choice(x, y)"})
    point = space.default_point(create_lookup({"a": setting}, {"b": "y"}))
    assert point == ({"b": "y"} if value is None else {"a": value, "b": "y"})
    assert type(point.get("a")) is type(value)


def test_the_default_point_has_only_active_parameters() -> None:
    listed = {
        "decode": "choice(greedy, sample)",
        "decode.top_p": {"values": "choice(0.9, 0.95)", "when": {"decode": "sample"}},
        "decode.beam": {"values": "choice(1, 5)", "when": {"decode": "greedy"}},
    }
    values = {"decode": {"beam": 5}}
    assert space_of(listed).default_point(create_lookup(values, {"decode": "greedy"})) == {
        "decode": "greedy", "decode.beam": "5",
    }  # fmt: skip
    # No option of the space is set, so no parameter below it is active.
    assert space_of(listed).default_point(create_lookup(values, {"decode": "none"})) == {}


def test_conditions_may_require_null() -> None:
    values = {"a": {"b": None, "c": [1, True], "d": False}}
    lookup = create_lookup(values, {"experiment": None})
    assert [lookup(key) for key in ("a.b", "a.c", "a.d", "experiment", "a.x", "x", "a.b.x")] == [
        "null", "[1,true]", "false", "null", "", "", "",
    ]  # fmt: skip
    space = space_of({"e": {"values": "choice(1, 2)", "when": {"a.b": None}}})
    assert space.grid_points(lookup) == [{"e": "1"}, {"e": "2"}]
    assert format_value(["x", None]) == "[x,null]"


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ({"a": {"values": "choice(1, 2)"}}, "a: values with a condition are {values: ..., when:"),
        ({"a": {"value": "choice(1, 2)", "when": {"b": 1}}}, "received {value: choice(1, 2), when"),
        ({"a": {"values": "choice(1, 2)", "when": {"b": {"c": 1}}}}, "values with a condition are"),
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
            "form a cycle",
        ),
    ],
)
def test_an_invalid_space_is_one_line(listed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        check_conditions(space_of(listed), ["model"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_sweeps_name_depends_on_what_it_searches_not_on_how() -> None:
    asked = ["model=gru,lstm", "seed=1,2"]
    name = sweep_name(None, "grid", asked)
    assert name == sweep_name(None, "grid", [*asked[::-1], "sweep.parallel=2", "sweep.trials=9"])
    assert name != sweep_name(None, "grid", ["model=gru,lstm", "seed=1,3"])
    assert sweep_name("mine", "grid", asked) == "mine"
