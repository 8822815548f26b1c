"""A file that lies in an ordinary Python package, found without running the package's code."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipelines.core.errors import UserError
from pipelines.data.sources._named import digest

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def packaged_file(name: str, package: str, version: str, file: str, sha256: str) -> Path:
    """The file at the path `file` inside the installation, if it has exactly the bytes we know.

    package, version  as pip knows them; `name` is what the data set is called in messages.
    """
    path = _located(name, package, version, file)
    if not path.is_file() or _digest(path) != sha256:
        state = "has other bytes" if path.is_file() else "is missing"
        raise UserError(
            f"data={name} needs {path} with the SHA-256 {sha256[:12]}…; "
            f"the file {state}: {_remedy(package, version)} --force-reinstall --no-deps"
        )
    return path


def packaged_folder(name: str, package: str, version: str, folder: str, sha256: str) -> Path:
    """As `packaged_file` of a folder, of whose files `folder_digest` is known."""
    path = _located(name, package, version, folder)
    if not path.is_dir() or _folder_digest(path) != sha256:
        state = "holds other files" if path.is_dir() else "is missing"
        raise UserError(
            f"data={name} needs the folder {path} with the files' SHA-256 {sha256[:12]}…; "
            f"it {state}: {_remedy(package, version)} --force-reinstall --no-deps"
        )
    return path


def folder_digest(folder: Path) -> str:
    """SHA-256 of "name size" and the bytes of each file, by name; folders within don't count."""
    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            content = path.read_bytes()
            found.update(f"{path.name} {len(content)}\n".encode())
            found.update(content)
    return found.hexdigest()


def _located(name: str, package: str, version: str, file: str) -> Path:
    remedy = _remedy(package, version)
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
    return Path(str(installed.locate_file(file)))


def _remedy(package: str, version: str) -> str:
    return f"pip install {package}=={version}"


_digest = cache(digest)
_folder_digest = cache(folder_digest)
