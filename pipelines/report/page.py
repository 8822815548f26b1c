"""A page to read from top to bottom: text, code, plots and tables, in one file, as the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.core.files import atomic_write
from pipelines.core.sections import Section
from pipelines.core.types import JsonObject
from pipelines.report.plots import PALETTE
from pipelines.report.run_report import Drawing, environment


@dataclass(frozen=True)
class Code:
    """Lines of code, shown verbatim."""

    text: str


@dataclass(frozen=True)
class Chapter:
    """parts: paragraphs, code, plots and tables, in order."""

    title: str
    parts: Sequence[str | Code | Section]


def write_page(
    path: Path, *, title: str, about: str, chapters: Sequence[Chapter], command: str
) -> Path:
    """Writes an HTML file without any outside resource; its plots are also files in plots/."""
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


def _groups(parts: Sequence[str | Code | Section], drawing: Drawing) -> list[JsonObject]:
    """Neighbouring plots and tables together, so that plots stand side by side."""
    groups: list[JsonObject] = []
    for part in parts:
        if isinstance(part, str):
            groups.append({"kind": "text", "text": part})
        elif isinstance(part, Code):
            groups.append({"kind": "code", "text": part.text})
        else:
            if not groups or groups[-1]["kind"] != "parts":
                groups.append({"kind": "parts", "sections": []})
            groups[-1]["sections"].append(drawing.section(part))
    return groups
