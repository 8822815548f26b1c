"""Errors that a user can mend, and suggestions for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend.

    The message is one line: what must hold, what was received, what to do.
    """


def suggest(received: str, choices: Iterable[str]) -> str:
    """Asks "did you mean 'x'?" or, where nothing is near, lists the choices, if any."""
    names = sorted(choices)
    near = difflib.get_close_matches(received, names, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(name) for name in near)}?"
    return f"choices: {', '.join(names)}" if names else ""
