"""Versions that follow each other, and workers that die, under requests: none of them is lost.

The workers here start at once, so that there are many changes; test_serving_workers.py has the
same with real ones.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import quick_worker
import uvloop
from serve_settings import serve_settings

from pipelines.core.files import atomic_replace
from pipelines.serve import worker_process
from pipelines.serve.predict_request import Columns, PredictRequest
from pipelines.serve.request_handling import handle_predict
from pipelines.serve.served_models import ServedModels

CLIENTS = 6
ROUNDS = 8

Change = Callable[[ServedModels, int], Awaitable[None]]


def write(directory: Path, factor: int) -> Path:
    directory.mkdir(parents=True)
    (directory / "saved_model.pb").write_text(str(factor))
    return directory


async def read_body() -> bytes:
    await asyncio.sleep(0.001)
    return b'{"instances": [[1, 0]]}'


def render(_: PredictRequest, outputs: Columns) -> int:
    return int(outputs["y"][0, 0])


async def factors_seen(path: Path, change: Change) -> list[list[int]]:
    """What each client has got of the model at `path` while it was changed again and again."""
    models = ServedModels({"one": path}, serve_settings(reload_interval=0.01, timeout=120))
    await models.load()
    done = asyncio.Event()

    async def ask() -> list[int]:
        seen, last = [], False
        while not last:
            last = done.is_set()
            answer = await handle_predict(models, "one", None, read_body=read_body, render=render)
            seen.append(answer)
        return seen

    clients = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
    for number in range(2, ROUNDS + 2):
        await asyncio.wait(clients, timeout=0.05 * number)
        await change(models, number)
    done.set()
    seen = await asyncio.gather(*clients)
    await models.close()
    return seen


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.005)


def run(path: Path, change: Change, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    monkeypatch.setattr(worker_process, "COMMAND", (sys.executable, quick_worker.__file__))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(factors_seen(path, change))


@pytest.mark.parametrize("kind", ["versions", "run"])
def test_new_versions_lose_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "model"
    place = path / ("1" if kind == "versions" else "saved_model")
    write(place, 1)

    async def change(models: ServedModels, number: int) -> None:
        new = write(tmp_path / f"new{number}", number)
        if kind == "versions":
            new.rename(path / str(number))
        else:
            await asyncio.to_thread(atomic_replace, new, place)
        model = models["one"]
        await until(lambda: model.current is not None and model.current.number == number)

    all_seen = run(path, change, monkeypatch)
    assert {factor for seen in all_seen for factor in seen} == set(range(1, ROUNDS + 2))
    for seen in all_seen:  # none comes back once the next has taken over
        assert seen == sorted(seen)
        assert seen[-1] == ROUNDS + 1


def test_workers_that_are_killed_lose_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def change(models: ServedModels, number: int) -> None:
        version = models["one"].version(None)
        worker, before = version.worker, version.worker._process.pid
        os.kill(before, signal.SIGKILL)
        await until(lambda: worker.alive and worker._process.pid != before)
        # One request may be sent twice, and no more: the next death must not meet the same ones.
        await asyncio.sleep(0.1)

    seen = run(write(tmp_path / "model" / "1", 3).parent, change, monkeypatch)
    assert {factor for one in seen for factor in one} == {3}
    assert all(len(one) > ROUNDS for one in seen)
