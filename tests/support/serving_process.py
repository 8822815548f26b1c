"""A server in a process of its own, SavedModels with signatures of all kinds, and clients."""

from __future__ import annotations

import json
import re
import resource
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
    return save(module, directory, signatures)


ALL_TYPES = {
    "text": ([None], tf.string),
    "age": ([None], tf.float32),
    "tokens": ([None, None], tf.string),
    "tokens_length": ([None], tf.int32),
    "ids": ([None, None], tf.int64),
    "ids_length": ([None], tf.int32),
    "series": ([None, None, 2], tf.float32),
    "series_length": ([None], tf.int32),
    "file_bytes": ([None], tf.string),
}


def describe_inputs(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """What the model has received of each input."""
    last = tf.maximum(inputs["series_length"] - 1, 0)
    return {
        "text": tf.strings.lower(inputs["text"]),
        "years": inputs["age"] + 1,
        "joined": tf.strings.reduce_join(inputs["tokens"], -1, separator=" "),
        "words": inputs["tokens_length"],
        "sum": tf.reduce_sum(inputs["ids"], -1),
        "last": tf.gather(inputs["series"], last, batch_dims=1),
        "lengths": tf.stack([inputs["ids_length"], inputs["series_length"]], -1),
        "bytes": tf.strings.length(inputs["file_bytes"]),
    }


def write_all_types(directory: Path) -> Path:
    """A SavedModel with inputs of all types."""
    specs = {name: tf.TensorSpec(*spec, name=name) for name, spec in ALL_TYPES.items()}
    function = tf.function(describe_inputs, autograph=False).get_concrete_function(**specs)
    return save(tf.Module(), directory, {"serving_default": function})


def save(module: tf.Module, directory: Path, signatures: dict[str, Any]) -> Path:
    tf.saved_model.save(module, str(directory), signatures)
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "imports.txt").write_text("")
    return directory


class Server:
    """mode=serve in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path):
        self.process = process
        self.log = log
        self.wait_for(lambda: re.search(r"http://[\d.]+:\d+", self.log_text()))
        found = re.search(r"http://[\d.]+:\d+", self.log_text())
        assert found
        self.client = httpx.Client(base_url=found[0], timeout=120)
        self.port = self.client.base_url.port or 80
        self.wait_for(lambda: self.client.get("/readyz").status_code == 200)

    def log_text(self) -> str:
        return self.log.read_text()

    def wait_for(self, condition: Any) -> None:
        for _ in range(6000):  # ten minutes: a busy machine takes one to load a model
            if condition():
                return
            assert self.process.poll() is None, self.log_text()
            time.sleep(0.1)
        raise AssertionError(self.log_text())

    def predict(self, name: str, **content: Any) -> Any:
        response = self.client.post(f"/v1/models/{name}:predict", json=content)
        assert response.status_code == 200, response.text
        return response.json()

    def error(self, path: str, content: bytes | Any) -> str:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        response = self.client.post(path, content=body)
        assert 400 <= response.status_code < 500, response.text
        return f"{response.status_code}: {response.json()['error']}"

    def workers(self) -> dict[str, int]:
        """Process ids by the SavedModel's directory."""
        children = psutil.Process(self.process.pid).children()
        return {child.cmdline()[-1]: child.pid for child in children}


@contextmanager
def serving(log: Path, *arguments: str, open_files: int | None = None) -> Iterator[Server]:
    """A server; with `open_files` as if started after ulimit -n."""
    command = [sys.executable, str(ROOT / "main.py"), "mode=serve", "serve.port=0", *arguments]
    with log.open("wb") as error:
        process = subprocess.Popen(command, stderr=error, cwd=log.parent)
    if open_files:  # long before Python has come to the code of ours that looks at it
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (open_files, open_files))
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
    """Clients that send the same request again and again, and their responses."""

    def __init__(self, server: Server, name: str, content: Any, clients: int = 8):
        self.responses: list[tuple[int, Any]] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=[server, name, content])
            for _ in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, server: Server, name: str, content: Any) -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=120) as client:
            while not self._stop.is_set():
                response = client.post(f"/v1/models/{name}:predict", json=content)
                self.responses.append((response.status_code, response.json()))
                time.sleep(0.01)  # the server under test needs a processor, too
