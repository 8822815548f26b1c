"""A server of a finished run and of a model of arithmetic, which many tests ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from serving_process import Server


@pytest.fixture(scope="session")
def server(finished_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from serving_process import serving, write_arithmetic  # imports TensorFlow

    folder = tmp_path_factory.mktemp("served")
    arithmetic = write_arithmetic(folder / "arithmetic")
    names = "serve.name=reviews,arithmetic"
    limits = ["serve.max_rows=1000", "serve.max_pixels=1000000", "serve.drain_seconds=0"]
    run = f"run={finished_run.directory},{arithmetic}"
    with serving(folder / "log", run, names, *limits) as server:
        yield server
