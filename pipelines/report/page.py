"""A page to read from top to bottom: text, code, plots and tables, in one file, as the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from pipelines.core.files import atomic_write
from pipelines.core.sections import Figure, Passages, Section, Table
from pipelines.report.plots import PALETTE
from pipelines.report.run_report import Drawing, environment


@dataclass(frozen=True)
class Code:
    """Lines as they are typed."""

    text: str


@dataclass(frozen=True)
class Chapter:
    """parts: paragraphs, code, plots and tables, in order."""

    title: str
    parts: Sequence[str | Code | Section]


def write_page(
    path: Path, *, title: str, about: str, chapters: Sequence[Chapter], command: str
) -> Path:
    """One HTML file without any outside resource; its plots also lie beside it, in plots/."""
    drawing = Drawing(path.parent / "plots")
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            about=about,
            command=command,
            palette=PALETTE,
            chapters=[
                {"title": chapter.title, "groups": _groups(chapter.parts, drawing)}
                for chapter in chapters
            ],
        )
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _groups(parts: Sequence[Any], drawing: Drawing) -> list[dict[str, Any]]:
    """Neighbouring plots and tables together, so that plots stand side by side."""
    made: list[dict[str, Any]] = []
    for is_section, group in groupby(
        parts, lambda part: isinstance(part, Figure | Table | Passages)
    ):
        if is_section:
            made.append({"kind": "parts", "sections": [drawing.section(one) for one in group]})
            continue
        for part in group:
            kind = "code" if isinstance(part, Code) else "text"
            made.append({"kind": kind, "text": part.text if kind == "code" else part})
    return made
