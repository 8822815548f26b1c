"""What must hold before a server starts, told in one line where it doesn't."""

from __future__ import annotations

import importlib.util
import os
import re
from ipaddress import ip_address
from pathlib import Path

import yaml

from pipelines.core.errors import UserError
from pipelines.core.settings import ServeSettings
from pipelines.serve.versions import newest

PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools", "prometheus_client", "PIL")


def check_serving(run: str, settings: ServeSettings) -> None:
    """Raises UserError: no such SavedModel, no extra, or open to others without a token."""
    lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if lacking:
        raise UserError(f"mode=serve needs {', '.join(lacking)}: pip install '.[serve]'")
    served_places(run, settings.name)
    if token_of(settings) is None and not _is_loopback(settings.host):
        raise UserError(
            f"serve.host={settings.host} lets others in, so a token is needed: serve.token=NAME, "
            "an environment variable or a file that holds it"
        )


def served_places(run: str, names: str | None) -> dict[str, Path]:
    """By name, the directories that run=DIR,DIR gives. Raises UserError.

    names  as serve.name has it: as many as there are directories, or None.
    """
    places = [Path(part.strip()) for part in run.split(",")]
    for place in places:
        if newest(place) is None:
            raise UserError(_lacks(place))
    chosen = [part.strip() for part in names.split(",")] if names else list(map(_name, places))
    if len(chosen) != len(places):
        raise UserError(
            f"serve.name must have a name for each of {len(places)} runs; received {names}"
        )
    for name in chosen:
        if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
            raise UserError(f"serve.name: must be letters, digits, _ . or -; received {name!r}")
        if chosen.count(name) > 1:
            raise UserError(
                f"serve.name: each run needs a name of its own, and {name} would be that of "
                f"{chosen.count(name)}: give them with serve.name=NAME,NAME"
            )
    return dict(zip(chosen, places, strict=True))


def _lacks(place: Path) -> str:
    if (place / "config.yaml").exists():
        return f"{place} holds no saved_model: make one with mode=export run={place}"
    there = "it holds no SavedModel" if place.exists() else "there is no such directory"
    return (
        f"run={place} must be a run, a SavedModel, or a directory of versions 1/, 2/ (several "
        f"separated by commas): {there}"
    )


def _name(place: Path) -> str:
    """Of a run its task's; otherwise the directory's."""
    try:
        config = yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8"))
        return str(config["task"]["name"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return re.sub(r"[^\w.-]", "_", place.resolve().name, flags=re.ASCII)


def token_of(settings: ServeSettings) -> str | None:
    """The token that clients must send; None for none. Raises UserError, which never shows it."""
    if settings.token is None:
        return None
    token = os.environ.get(settings.token)
    if token is None:
        try:
            token = Path(settings.token).read_text(encoding="ascii")
        except (OSError, ValueError):
            raise UserError(
                "serve.token must name an environment variable or a readable file that holds the "
                "token, and names neither"
            ) from None
    if not re.fullmatch(r"[!-~]{8,}", token.strip()):
        raise UserError("serve.token: the token must be 8 or more printable ASCII characters")
    return token.strip()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
