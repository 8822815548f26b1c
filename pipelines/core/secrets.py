"""Passwords in addresses: found, so that they can be refused, and masked where they are shown."""

from __future__ import annotations

import re

from pipelines.core.errors import UserError

# From the first colon to the last @, since a password may hold @ and / that nobody has escaped.
_PASSWORD = re.compile(r"(://[^:/?#\s\"]*:)[^\s\"]*@")
_PARAMETER = re.compile(
    r"(?i)([?&;](?:\w+[-_.])?(?:ssl)?(?:password|passwd|pass|pwd|secret|token|api[-_]?key)=)[^&;\s\"]*"
)

MASK = "***"


def mask_passwords(text: str) -> str:
    """The text with *** for passwords in addresses, and for parameters that hold any."""
    return _PARAMETER.sub(rf"\g<1>{MASK}", _PASSWORD.sub(rf"\g<1>{MASK}@", text))


def check_no_password(setting: str, address: str, remedy: str) -> None:
    """Raises UserError, which doesn't show it, for an address with a password.

    What is set is written to the run's directory and shown in its report.
    """
    if mask_passwords(address) != address:
        raise UserError(
            f"{setting} must hold no password, since settings are saved and shown; received "
            f"{mask_passwords(address)}: {remedy}"
        )
