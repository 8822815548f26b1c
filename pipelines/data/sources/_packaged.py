"""Files in installed Python packages, found without running the packages' code."""

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


def find_packaged_file(name: str, package: str, version: str, file: str, sha256: str) -> Path:
    """The file at the path `file` inside the installation; UserError unless its SHA-256 matches.

    name              of the data set, for messages.
    package, version  as pip knows them.
    """
    path = _locate(name, package, version, file)
    if not path.is_file() or _cached_digest(path) != sha256:
        state = "has other bytes" if path.is_file() else "is missing"
        raise UserError(
            f"data={name} needs {path} with the SHA-256 {sha256[:12]}…; "
            f"the file {state}: {_install_command(package, version)} --force-reinstall --no-deps"
        )
    return path


def find_packaged_folder(name: str, package: str, version: str, folder: str, sha256: str) -> Path:
    """Like `find_packaged_file`, for a folder with this `folder_sha256`."""
    path = _locate(name, package, version, folder)
    if not path.is_dir() or _cached_folder_sha256(path) != sha256:
        state = "holds other files" if path.is_dir() else "is missing"
        raise UserError(
            f"data={name} needs the folder {path} with the files' SHA-256 {sha256[:12]}…; "
            f"it {state}: {_install_command(package, version)} --force-reinstall --no-deps"
        )
    return path


def folder_sha256(folder: Path) -> str:
    """SHA-256 over name, size and bytes of each file, sorted by name, without subfolders."""
    sha256 = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            content = path.read_bytes()
            sha256.update(f"{path.name} {len(content)}\n".encode())
            sha256.update(content)
    return sha256.hexdigest()


def _locate(name: str, package: str, version: str, file: str) -> Path:
    remedy = _install_command(package, version)
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


def _install_command(package: str, version: str) -> str:
    return f"pip install {package}=={version}"


_cached_digest = cache(digest)
_cached_folder_sha256 = cache(folder_sha256)
