"""A server in a process of its own, a model with signatures of all kinds, and clients."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import tensorflow as tf

from pipelines.core.paths import ROOT


class Arithmetic(tf.Module):
    """Signatures of several kinds, without a network."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], name="x")])
    def scaled(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.debugging.assert_less(x, 1000.0, message="x must be below 1000")
        return {"y": self.factor * x}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="image_bytes"),
            tf.TensorSpec([None, None], tf.int32, name="n"),
            tf.TensorSpec([None], tf.bool, name="flag"),
        ]
    )
    def kinds(self, image_bytes: tf.Tensor, n: tf.Tensor, flag: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"back_bytes": image_bytes, "n": n, "flag": tf.logical_not(flag)}

    @tf.function(input_signature=[tf.TensorSpec([None], name="seconds")])
    def slow(self, seconds: tf.Tensor) -> dict[str, tf.Tensor]:
        end = tf.timestamp() + tf.cast(tf.reduce_max(seconds), tf.float64)
        wait = tf.while_loop(lambda _: tf.timestamp() < end, lambda s: [s + 0], [seconds])
        return {"over": wait[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], name="x")])
    def total(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"mean": tf.reduce_mean(x), "rows": x}


def write_arithmetic(directory: Path, factor: float = 2.0) -> Path:
    module = Arithmetic(factor)
    signatures = {
        "serving_default": module.scaled,
        "kinds": module.kinds,
        "slow": module.slow,
        "total": module.total,
    }
    tf.saved_model.save(module, str(directory), signatures)
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "imports.txt").write_text("")
    return directory


class Server:
    """mode=serve in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path):
        self.process = process
        self.log = log
        self.wait_for(lambda: re.search(r"http://[\d.]+:\d+", self.told()))
        found = re.search(r"http://[\d.]+:\d+", self.told())
        assert found
        self.client = httpx.Client(base_url=found[0], timeout=120)
        self.wait_for(lambda: self.client.get("/readyz").status_code == 200)

    def told(self) -> str:
        return self.log.read_text()

    def wait_for(self, condition: Any) -> None:
        for _ in range(1500):
            if condition():
                return
            assert self.process.poll() is None, self.told()
            time.sleep(0.1)
        raise AssertionError(self.told())

    def predict(self, name: str, **content: Any) -> Any:
        answer = self.client.post(f"/v1/models/{name}:predict", json=content)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, content: bytes | Any) -> str:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        answer = self.client.post(path, content=body)
        assert 400 <= answer.status_code < 500, answer.text
        return f"{answer.status_code}: {answer.json()['error']}"

    def workers(self) -> dict[str, int]:
        """Process ids by the SavedModel's directory."""
        children = psutil.Process(self.process.pid).children()
        return {child.cmdline()[-1]: child.pid for child in children}


@contextmanager
def serving(log: Path, *arguments: str) -> Iterator[Server]:
    command = [sys.executable, str(ROOT / "main.py"), "mode=serve", "serve.port=0", *arguments]
    with log.open("wb") as error:
        process = subprocess.Popen(command, stderr=error, cwd=log.parent)
    try:
        yield Server(process, log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()


class Load:
    """Clients that ask again and again, and what they were told."""

    def __init__(self, server: Server, name: str, content: Any, clients: int = 8):
        self.answers: list[tuple[int, Any]] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=[server, name, content]) for _ in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, server: Server, name: str, content: Any) -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=120) as client:
            while not self._stop.is_set():
                answer = client.post(f"/v1/models/{name}:predict", json=content)
                self.answers.append((answer.status_code, answer.json()))
                time.sleep(0.01)  # the server under test needs a processor, too
