"""Secrets: kept out of settings, which are saved and shown, and masked in what is printed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from pipelines.core.errors import UserError

_PORT = r"\d{1,5}(?:[/?#\s]|$)"

# From the first colon to the last @, since a password may hold @ and / that nobody has escaped.
# After a port, or the bracket of an IPv6 address, there is no password, and the path may hold @.
_PASSWORD = re.compile(rf"(://[^:/?#\s\"\[]*:)(?!{_PORT})[^\s\"]*@")
_PARAMETER = re.compile(
    r"(?i)([?&;](?:\w+[-_.])?(?:ssl)?(?:password|passwd|pass|pwd|secret|token|api[-_]?key)=)[^&;\s\"]*"
)

# Of a whole setting, whether or not it is an address that a program could read.
_WHOLE = re.compile(rf"^(?!sqlite|file)((?:[\w+.-]*:/+)?+[^:@\[]*:)(?!{_PORT}).*@", re.S | re.I)
_KEYWORD = re.compile(r"(?i)(^|\s)((?:password|passwd|pwd)\s*=\s*)\S+")

MASK = "***"


def mask_passwords(text: str) -> str:
    """The text with *** for passwords in addresses, and for parameters that hold any."""
    return _PARAMETER.sub(rf"\g<1>{MASK}", _PASSWORD.sub(rf"\g<1>{MASK}@", text))


def check_no_password(setting: str, address: str, remedy: str) -> None:
    """Raises UserError, which doesn't show it, for an address with a password.

    What is set is written to the run's directory and shown in its report.
    """
    masked = _KEYWORD.sub(rf"\g<1>\g<2>{MASK}", _WHOLE.sub(rf"\g<1>{MASK}@", address))
    masked = mask_passwords(masked)
    if masked != address:
        raise UserError(
            f"{setting} must hold no password, since settings are saved and shown; received "
            f"{masked}: {remedy}"
        )


def read_secret(name: str) -> str | None:
    """What the environment variable or the file of that name holds; None if there is neither."""
    value = os.environ.get(name)
    if value is None:
        try:
            value = Path(name).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError, RuntimeError):
            return None
    return value.strip()


def hide_secret(text: str, address: str) -> str:
    """The text with *** for the address's passwords and their parts.

    A driver may have cut a password in two, and tell the half that it takes for the host's name.
    """
    secrets = {
        match[0].removeprefix(match[1]).removesuffix("@")
        for pattern in (_WHOLE, _PASSWORD, _PARAMETER)
        for match in pattern.finditer(address)
    }
    secrets |= {unquote(secret) for secret in secrets}
    secrets |= {part for secret in secrets for part in re.split(r"\W", secret) if len(part) > 1}
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
