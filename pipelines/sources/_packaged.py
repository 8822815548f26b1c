"""A file that lies in an ordinary Python package, found without running the package's code."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipelines.contracts import UserError
from pipelines.sources._named import digest

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def packaged_file(name: str, package: str, version: str, file: str, sha256: str) -> Path:
    """The file at the path `file` inside the installation, if it has exactly the bytes we know.

    package, version  as pip knows them; `name` is what the data set is called in messages.
    """
    remedy = f"pip install {package}=={version}"
    try:
        installed = distribution(package)
    except PackageNotFoundError:
        raise UserError(
            f"data={name} needs the package {package} {version}; it isn't installed: {remedy}"
        ) from None
    if installed.version != version:
        raise UserError(
            f"data={name} needs the package {package} {version}; "
            f"{installed.version} is installed: {remedy}"
        )
    path = Path(str(installed.locate_file(file)))
    if not path.is_file() or _digest(path) != sha256:
        state = "has other bytes" if path.is_file() else "is missing"
        raise UserError(
            f"data={name} needs {path} with the SHA-256 {sha256[:12]}…; "
            f"the file {state}: {remedy} --force-reinstall --no-deps"
        )
    return path


_digest = cache(digest)
