"""Behaviour of libraries that no documentation promises, and defects that this project avoids.

Keras' own trainer fails with several workers. The loop here sums gradients and losses itself
(pipelines/distributed/workers.py), so it meets neither of these two defects of Keras 3.15. When one
of their tests fails, Keras is mended, and `fit` may be used with MultiWorkerMirroredStrategy.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import tensorflow as tf
import uvicorn
from keras.src.backend.tensorflow import trainer
from PIL import Image
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser

from pipelines.distributed.cluster import Cluster, find_free_ports


def test_keras_cannot_average_scalar_metrics_over_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the mean over axis 0, which scalars lack."""
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    monkeypatch.setattr(trainer, "_collective_all_reduce_multi_worker", lambda _: True)
    with pytest.raises(ValueError, match="Invalid reduction dimension 0"):
        trainer.reduce_per_replica({"loss": tf.constant(1.0)}, strategy, "auto")


FIT = """
import keras, tensorflow as tf
with tf.distribute.MultiWorkerMirroredStrategy().scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer="sgd")
model.fit(tf.data.Dataset.from_tensors((tf.ones([8, 3]), tf.ones([8, 1]))), verbose=0)
"""


@pytest.mark.slow
def test_keras_cannot_build_a_model_from_inputs_and_targets_of_several_workers() -> None:
    """It takes the mean of a nested batch as if it were one tensor (_maybe_symbolic_build)."""
    cluster = Cluster(tuple(f"127.0.0.1:{port}" for port in find_free_ports(2)), 0)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIT],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CONFIG": cluster.tf_config(index)},
        )
        for index in range(2)
    ]
    for process in processes:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 1, told
        assert "Attempt to convert a value (PerReplica" in told


# Serving


def test_starlette_keeps_uploads_in_memory_up_to_spool_max_size() -> None:
    """There is no setting for it but this attribute, which the page sets for the process."""

    async def parts() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n'
        yield b"1" * 5_000
        yield b"\r\n--x--\r\n"

    async def is_on_disk() -> bool:
        headers = Headers({"content-type": "multipart/form-data; boundary=x"})
        form = await MultiPartParser(headers, parts()).parse()
        return form["a"].file._rolled  # type: ignore[union-attr]

    with pytest.MonkeyPatch.context() as patch:
        for size, rolled in ((10_000, False), (1_000, True)):
            patch.setattr(MultiPartParser, "spool_max_size", size)
            assert asyncio.run(is_on_disk()) == rolled


def test_uvicorn_ends_by_handle_exit_should_exit_and_force_exit() -> None:
    """The server overrides the first, to drain, and sets the others."""
    server = uvicorn.Server(uvicorn.Config("none"))
    assert (server.should_exit, server.force_exit) == (False, False)
    server.handle_exit(signal.SIGTERM, None)
    assert (server.should_exit, server.force_exit) == (True, False)


def test_pillow_says_how_many_pixels_the_images_have_that_it_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The number is only in the message of its exception."""
    file = io.BytesIO()
    Image.new("1", (100, 50)).save(file, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(Image.DecompressionBombError, match=r"^Image size \(5000 pixels\)"):
        Image.open(file)


def test_tensorflow_gives_the_specs_of_a_loaded_signature_by_name(tmp_path: Path) -> None:
    module = tf.Module()
    spec = tf.TensorSpec([None, None], tf.string, name="tokens")
    graph = tf.function(lambda tokens: {"y": tokens}, autograph=False)
    tf.saved_model.save(
        module, str(tmp_path), {"serving_default": graph.get_concrete_function(tokens=spec)}
    )
    loaded = tf.saved_model.load(str(tmp_path))
    positional, named = loaded.signatures["serving_default"].structured_input_signature
    assert positional == ()
    assert named.keys() == {"tokens"}
    assert named["tokens"].shape.as_list() == [None, None]
    assert named["tokens"].dtype.as_numpy_dtype is object
