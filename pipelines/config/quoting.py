"""Quotes free text on the command line for Hydra's grammar, so that people needn't."""

from __future__ import annotations

import re

FREE_TEXT_KEYS = re.compile(
    r"input|output|runs?|serve\.(name|token)|.*[._](path|dir|vectors|start)"
)
"""Settings whose values are free text or paths."""


def quote_free_text(argument: str) -> str:
    """The argument key=value, with the value quoted if the key is one of FREE_TEXT_KEYS."""
    key, equals, value = argument.partition("=")
    if not FREE_TEXT_KEYS.fullmatch(key) or not equals or value in ("", "null"):
        return argument
    if not key.startswith(("in", "out")) and not re.search(r"[^\w./~-]", value):
        return argument
    # Hydra halves backslashes only in front of a quote or of ${, and at the end of the value.
    value = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", value)
    value = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"{key}='{value}'"
