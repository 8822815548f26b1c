"""Checks before a server starts. Each mistake is one line."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from pipelines.core.errors import UserError, shown
from pipelines.core.saved_files import DamagedError, read_yaml
from pipelines.core.secrets import read_secret
from pipelines.core.settings import ServeSettings
from pipelines.serve.origins import is_loopback
from pipelines.serve.versions import latest_version

PACKAGES = ("starlette", "uvicorn", "uvloop", "httptools", "prometheus_client", "PIL")


def check_serving(run: str, settings: ServeSettings) -> None:
    """Raises UserError: no SavedModel, no extra `serve`, or others can connect without a token."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"mode=serve needs {', '.join(missing)}: pip install '.[serve]'")
    model_paths(run, settings.name)
    if read_token(settings) is None and not is_loopback(settings.host):
        raise UserError(
            f"serve.host={settings.host} can be reached by others, so a token is needed: "
            "serve.token=NAME, an environment variable or a file that holds it"
        )
    for origin in settings.origins:
        if not re.fullmatch(r"https?://[^/?#@\s]+", origin):
            raise UserError(
                "serve.origins must be addresses without a path, such as "
                f"https://models.example.org; received {origin!r}"
            )


def model_paths(run: str, names: str | None) -> dict[str, Path]:
    """The directories of run=DIR,DIR by the names to serve them under. Raises UserError.

    names  as in serve.name: one for each directory, or None.
    """
    paths = [Path(part.strip()) for part in run.split(",")]
    for path in paths:
        if latest_version(path) is None:
            raise UserError(_explain_missing(path))
    chosen = [n.strip() for n in names.split(",")] if names else list(map(_default_name, paths))
    if len(chosen) != len(paths):
        raise UserError(
            f"serve.name must have a name for each of {len(paths)} runs; received {names}"
        )
    for name in chosen:
        if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
            raise UserError(
                f"serve.name: must be letters, digits, _ . or -; received {shown(name)}"
            )
        if chosen.count(name) > 1:
            raise UserError(
                f"serve.name: each run needs a name of its own, and {name} is the name of "
                f"{chosen.count(name)}: choose them with serve.name=NAME,NAME"
            )
    return dict(zip(chosen, paths, strict=True))


def _explain_missing(path: Path) -> str:
    if (path / "config.yaml").exists():
        return f"{path} holds no saved_model: make one with mode=export run={path}"
    reason = "it holds no SavedModel" if path.exists() else "there is no such directory"
    return (
        f"run={path} must be a run, a SavedModel, or a directory of versions 1/, 2/ (several "
        f"separated by commas): {reason}"
    )


def _default_name(path: Path) -> str:
    """The task's name for a run; otherwise the directory's name."""
    try:
        config = read_yaml(path / "config.yaml", "make the run again")
        return str(config["task"]["name"])
    except (OSError, DamagedError, LookupError, TypeError):
        return re.sub(r"[^\w.-]", "_", path.resolve().name, flags=re.ASCII)


def read_token(settings: ServeSettings) -> str | None:
    """The token that clients must send; None if none is needed.

    Raises UserError, whose message never shows the token.
    """
    if settings.token is None:
        return None
    token = read_secret(settings.token)
    if token is None:
        raise UserError(
            "serve.token must name an environment variable or a readable file that holds the "
            "token, and names neither"
        )
    if not re.fullmatch(r"[!-~]{8,}", token):
        raise UserError("serve.token: the token must be 8 or more printable ASCII characters")
    return token
