"""Paths of the project's own files; no other module counts folders."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder of main.py."""


def python_path(*more: Path) -> str:
    """PYTHONPATH for processes that import this project: its folder, more, and what the user set.

    Empty and relative entries are left out: they depend on the working directory, whose files are
    no code.
    """
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(ROOT), *map(str, more), *filter(os.path.isabs, given)])


MAIN = ROOT / "main.py"
CONF = ROOT / "conf"
PIPELINES = ROOT / "pipelines"
MODELS = ROOT / "models"
TEMPLATES = PIPELINES / "report" / "templates"
