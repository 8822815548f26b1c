"""Checks of the settings of a division, before anything slow is imported."""

from __future__ import annotations

from pipelines.core.contracts import Source
from pipelines.core.errors import UserError
from pipelines.core.settings import PrepareSettings


def check_division(source: Source, settings: PrepareSettings) -> None:
    """Raises UserError for settings that contradict each other, or columns that aren't there."""
    if settings.group_by and settings.division not in ("hash", "related"):
        raise UserError(
            f"prepare.group_by goes with prepare.division=hash or related; received "
            f"{settings.division}, which keeps rows together in its own way: leave one of them out"
        )
    if settings.time_column is not None and settings.division != "time":
        raise UserError("prepare.time_column goes with prepare.division=time; leave it null")
    names = [settings.group_by] if isinstance(settings.group_by, str) else settings.group_by or []
    columns = [*names, *filter(None, [settings.time_column])]
    extra = [name for name in columns if name not in source.columns]
    if extra:
        source.check_extra(extra)
