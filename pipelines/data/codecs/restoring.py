"""What codecs have in common where they are restored from a saved state."""

from __future__ import annotations

from pipelines.core.errors import UserError, shown
from pipelines.core.types import Json, JsonObject


def check_same_settings(what: str, saved: Json, own: JsonObject) -> None:
    """Raises UserError, which names a difference, unless a saved state has a codec's own settings.

    what  has these settings, in words.
    """
    for name, value in own.items():
        theirs = saved[name]
        if isinstance(value, dict) and isinstance(theirs, dict):
            check_same_settings(what, {**dict.fromkeys(value), **theirs}, value)
        elif theirs != value:
            raise UserError(
                f"{what} with {name}={shown(theirs)} can't be used with {name}={shown(value)}"
            )
