"""What is said of a source that can't be read."""

from __future__ import annotations

import pytest

from pipelines.core.contracts import Source
from pipelines.core.errors import UserError


def error_of(source: Source) -> str:
    """The one line with which the source's check ends."""
    with pytest.raises(UserError) as error:
        source.check()
    assert "\n" not in str(error.value)
    return str(error.value)
