"""The connection to Ray, for workers that import this project and nothing that lies about."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from pipelines.core.paths import ROOT, python_path


def connect_to_ray(**options: Any) -> None:
    """Calls ray.init(**options) in the project's folder.

    Ray puts the folder where it is called, as well as that of main.py, on the import path of all
    workers, and the user's working directory may hold anything.
    """
    import ray

    os.environ["PYTHONPATH"] = python_path()
    with contextlib.chdir(ROOT):
        ray.init(**options)
