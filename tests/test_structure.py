"""Rules of the code that a linter doesn't know; those of imports are in pyproject.toml."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pipelines.core.paths import ROOT

MODULES = sorted([*(ROOT / "models").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_graph_is_made_of_rewritten_source(path: Path) -> None:
    """AutoGraph takes as long as all the rest of tracing, and here all loops are TensorFlow's."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    named = [node for node in nodes if ast.unparse(node) == "tf.function"]
    calls = [node for node in nodes if isinstance(node, ast.Call) and node.func in named]
    silenced = [call for call in calls if "autograph" in {word.arg for word in call.keywords}]
    assert len(silenced) == len(named), "give each tf.function autograph=False"
