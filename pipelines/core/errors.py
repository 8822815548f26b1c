"""Errors that a user can mend, what they show of values, and suggestions for them."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

LONGEST = 1500
"""Characters of a message. What is cut out of a longer one is in its middle."""


class UserError(ValueError):
    """Something the user can mend.

    The message is one line: what must hold, what was received, what to do. Whatever names and
    values are in it, it stays one line of characters that a terminal shows, and short.
    """

    def __init__(self, message: str = ""):
        super().__init__(one_line(message))


def one_line(message: str) -> str:
    """The message as one line of LONGEST characters at most that a terminal can show."""
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} … {message[-LONGEST // 2 :]}"
    if message.isprintable():
        return message
    line = " ".join(message.splitlines())
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in line
    )


SMALLER = (
    "make what is computed at once smaller (train.batch_tokens, evaluate.batch_tokens, "
    "serve.batch_rows), or the model (model.width, task.text.vocabulary_size)"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or TensorFlow, which needn't be imported, got no more memory."""
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"


class _Short(reprlib.Repr):
    """repr() that never takes long or becomes long, whatever a file or a person gave."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple = 2, 5, 5
        self.maxstring = self.maxother = 100

    def repr_int(self, number: int, level: int) -> str:
        del level
        if number.bit_length() > 256:  # Python refuses to write thousands of digits
            return f"a number of about {int(number.bit_length() * 0.30103) + 1:,} digits"
        return repr(number)


_short = _Short()


def shown(value: object) -> str:
    """A value for a message, as repr() writes it: of long ones the beginning and the end."""
    return _short.repr(value)


def suggest(received: str, choices: Iterable[str]) -> str:
    """Asks "did you mean 'x'?" or, where nothing is near, lists the choices, if any."""
    names = sorted(choices)
    near = difflib.get_close_matches(received[:LONGEST], names, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(name) for name in near)}?"
    return f"choices: {', '.join(names)}" if names else ""
