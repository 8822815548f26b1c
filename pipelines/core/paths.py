"""Paths of the project's own files; no other module counts folders."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder of main.py."""

MAIN = ROOT / "main.py"
CONF = ROOT / "conf"
PIPELINES = ROOT / "pipelines"
MODELS = ROOT / "models"
TEMPLATES = PIPELINES / "report" / "templates"
