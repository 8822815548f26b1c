"""docs/metrics.md: the keys of metrics.json, from the classes that it is parsed into.

python -m pipelines.runs.metrics_page    writes the page anew
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from pipelines.core.files import atomic_write
from pipelines.core.formatting import capitalize
from pipelines.core.paths import ROOT
from pipelines.runs import metrics
from pipelines.runs.metrics import RunMetrics

PAGE = ROOT / "docs" / "metrics.md"

_INTRODUCTION = """\
# metrics.json

Each run's directory holds `metrics.json`: an object with what the run measured, written anew after
each stage. Its keys are stable, and none has a space, so that a number has a short name too, such
as `test.accuracy` or `seconds.train`. What a stage has not measured, or what doesn't apply, is left
out. The page is made from `pipelines/runs/metrics.py`: `python -m pipelines.runs.metrics_page`.
"""

_ENTRY = re.compile(r"(?P<keys>\w+(?:, \w+)*) {2,}(?P<meaning>\S.*)")

_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
}


def page() -> str:
    """The page as Markdown: a table a class, in the order in which they are first mentioned."""
    return "\n".join([_INTRODUCTION, *(_section(cls) for cls in _classes(RunMetrics))])


def meanings(kind: type[BaseModel]) -> dict[str, str]:
    """The meaning of each key in the docstrings of a class and of its base classes."""
    meaning_by_key: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        keys: list[str] = []
        for line in inspect.cleandoc(base.__dict__.get("__doc__") or "").splitlines()[1:]:
            if entry := _ENTRY.fullmatch(line):
                keys = entry["keys"].split(", ")
                meaning_by_key |= dict.fromkeys(keys, entry["meaning"])
            elif keys and line.startswith("  "):
                meaning_by_key |= {key: f"{meaning_by_key[key]} {line.strip()}" for key in keys}
    return meaning_by_key


def _classes(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The class, and all that its keys hold."""
    waiting, seen = [kind], {kind}
    while waiting:
        cls = waiting.pop(0)
        yield cls
        names = re.findall(r"#/\$defs/(\w+)", str(cls.model_json_schema()["properties"]))
        mentioned = [getattr(metrics, name) for name in dict.fromkeys(names)]
        waiting += [other for other in mentioned if other not in seen]
        seen.update(mentioned)


def _section(kind: type[BaseModel]) -> str:
    descriptions, schema = meanings(kind), kind.model_json_schema()
    about = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    rows = [
        f"| `{key}` | {_type(part)} | {_cell(descriptions.get(key, ''))} |"
        for key, part in schema["properties"].items()
    ]
    table = ["| key | type | meaning |", "| --- | --- | --- |", *rows]
    return "\n".join([f"## {kind.__name__}", "", about, "", *table, ""])


def _cell(text: str) -> str:
    """A sentence, for a table."""
    return capitalize(text).replace("|", "\\|")


def _type(part: Mapping[str, Any]) -> str:
    """The type of a key's value, from its JSON schema."""
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in part:
        return " or ".join(_type(option) for option in part["anyOf"] if option != {"type": "null"})
    if "enum" in part:
        return " or ".join(f"`{option}`" for option in part["enum"])
    if part.get("type") == "array":
        return f"list of {_type(part['items'])}"
    if part.get("type") == "object":
        values = part.get("additionalProperties")
        return f"object of {_type(values)}" if isinstance(values, Mapping) else "object"
    return _KINDS.get(part.get("type", ""), "any value")


def main() -> None:
    PAGE.parent.mkdir(exist_ok=True)
    with atomic_write(PAGE) as temporary:
        temporary.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
