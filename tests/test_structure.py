"""Imports point one way, and nothing shared knows more than it should."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import ROOT

MODULES = sorted([*(ROOT / "models").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # What is taken from a package may be a module of it.
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize(
    "path", sorted((ROOT / "models").rglob("*.py")), ids=lambda path: path.stem
)
def test_models_know_nothing_of_configuration_and_pipelines(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imported(path)}
    assert not tops & {"hydra", "omegaconf", "pipelines", "main"}


TASKS = {f"pipelines.tasks.{path.stem}" for path in (ROOT / "pipelines/tasks").glob("[!_]*.py")}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "pipelines/tasks").glob("*.py")), ids=lambda path: path.stem
)
def test_tasks_do_not_import_each_other(path: Path) -> None:
    """What some share is in a module of its own, that is no task: its name begins with "_"."""
    assert not imported(path) & TASKS


EDGES = (
    "schema", "run", "pipeline", "errors", "space", "typed", "sweeper", "remote",
    "launching", "winner", "ray_trainer",
)  # fmt: skip
"""Modules that read, compose or check configurations, or that Hydra calls, or call it."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_only_the_edges_know_the_configuration_library(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imported(path)}
    if path.stem not in EDGES:
        assert not tops & {"hydra", "omegaconf"}


STAGES = [
    "prepare", "train", "best_weights", "optimization", "evaluate", "export", "formats", "card",
    "report", "predict", "batches",
]  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_stages_know_no_task(stage: str) -> None:
    names = imported(ROOT / "pipelines" / f"{stage}.py")
    assert "pipelines.tasks.sentiment" in TASKS
    assert not names & (TASKS | {"pipelines.schema"})
    assert not {n for n in names if n.startswith(("pipelines.tasks._", "pipelines.codecs"))}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_graph_is_made_of_rewritten_source(path: Path) -> None:
    """AutoGraph takes as long as all the rest of tracing, and here all loops are TensorFlow's."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    named = [node for node in nodes if ast.unparse(node) == "tf.function"]
    calls = [node for node in nodes if isinstance(node, ast.Call) and node.func in named]
    told = [call for call in calls if "autograph" in {word.arg for word in call.keywords}]
    assert len(told) == len(named), "give each tf.function autograph=False"
