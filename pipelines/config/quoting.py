"""Free text on the command line, which Hydra's grammar wants quoted and people needn't quote."""

from __future__ import annotations

import re

FREE_TEXT = re.compile(r"input|output|runs?|serve\.(name|token)|.*[._](path|dir|vectors|start)")
"""Settings whose values are free text or paths."""


def quoted(argument: str) -> str:
    """Free text after key= as Hydra's grammar wants it."""
    key, equals, value = argument.partition("=")
    if not FREE_TEXT.fullmatch(key) or not equals or value in ("", "null"):
        return argument
    if not key.startswith(("in", "out")) and not re.search(r"[^\w./~-]", value):
        return argument
    value = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", value)
    value = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"{key}='{value}'"
