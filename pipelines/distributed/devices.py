"""The device that a process computes on: CPUs, or one GPU. Each worker has a GPU of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipelines.core.errors import UserError, shown
from pipelines.distributed.cluster import Cluster
from pipelines.runs.parallel import CORES

GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""Device files of NVIDIA's, AMD's and WSL's drivers; without them Linux has no usable GPU."""


def check_device(device: str) -> None:
    """Raises UserError if train.device=gpu and there clearly is none, even without TensorFlow."""
    if device != "gpu":
        return
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden in ("", "-1"):
        raise UserError(
            f"train.device=gpu, but CUDA_VISIBLE_DEVICES={shown(hidden)} hides all GPUs"
        )
    if sys.platform == "linux" and not any(Path(name).exists() for name in GPU_FILES):
        raise UserError(
            "train.device=gpu needs a GPU and its driver, and there is none here: use "
            "train.device=cpu, or auto for a GPU only where there is one"
        )


def choose_device(device: str, cluster: Cluster | None = None) -> None:
    """Limits TensorFlow to one device; must be called before its runtime starts.

    GPU memory is allocated as needed. Each of several workers on a machine has a GPU of its own
    or, without GPUs, its share of the cores. Raises UserError if a requested GPU is missing, or if
    there are fewer GPUs than workers.
    """
    import tensorflow as tf

    workers = cluster.local_indices if cluster is not None else [0]
    place = workers.index(cluster.index) if cluster is not None else 0
    gpus = [] if device == "cpu" else list(tf.config.list_physical_devices("GPU"))
    if device == "gpu" and not gpus:
        raise UserError(
            "train.device=gpu, but TensorFlow sees none: install tensorflow[and-cuda] and a driver "
            "that fits, or use train.device=cpu"
        )
    if gpus and len(gpus) < len(workers):
        raise UserError(
            f"{len(workers)} workers on a machine with {len(gpus)} GPUs: each needs its own; "
            "start fewer, or use train.device=cpu"
        )
    if tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices(gpus[place : place + 1], "GPU")
    for gpu in gpus[place : place + 1]:
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus and len(workers) > 1:
        tf.config.threading.set_intra_op_parallelism_threads(max(1, CORES // len(workers)))


def device_name() -> str:
    """The device's name, for the report."""
    import tensorflow as tf

    for gpu in tf.config.get_visible_devices("GPU"):
        return str(tf.config.experimental.get_device_details(gpu).get("device_name", "GPU"))
    return "CPU"
