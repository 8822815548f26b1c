"""What a process computes on: CPUs, or one GPU. Several GPUs are a worker's each."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pipelines.core.errors import UserError
from pipelines.distributed.cluster import Cluster
from pipelines.runs.parallel import CORES

GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""Of drivers (NVIDIA's, AMD's, WSL's): without any of them TensorFlow sees no GPU on Linux."""


def check_device(device: str) -> None:
    """Raises UserError where it is seen without TensorFlow that there is no GPU."""
    if device != "gpu":
        return
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden in ("", "-1"):
        raise UserError(f"train.device=gpu, but CUDA_VISIBLE_DEVICES={hidden!r} hides all GPUs")
    if sys.platform == "linux" and not any(Path(name).exists() for name in GPU_FILES):
        raise UserError(
            "train.device=gpu needs a GPU and its driver, and there is none here: use "
            "train.device=cpu, or auto for whatever there is"
        )


def choose_device(device: str, cluster: Cluster | None = None) -> None:
    """Before TensorFlow's runtime starts: the device it may see, and how it uses it.

    A GPU's memory is taken as it is needed. Of several workers on a machine each has a GPU of its
    own or, where there are none, its share of the cores. UserError if there is no GPU that is
    asked for, or fewer than workers.
    """
    import tensorflow as tf

    here = cluster.here if cluster is not None else [0]
    number = here.index(cluster.index) if cluster is not None else 0
    gpus: list[Any] = [] if device == "cpu" else tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise UserError(
            "train.device=gpu, but TensorFlow sees none: install tensorflow[and-cuda] and a driver "
            "that fits, or use train.device=cpu"
        )
    if gpus and len(gpus) < len(here):
        raise UserError(
            f"{len(here)} workers on a machine with {len(gpus)} GPUs: each needs one of its own; "
            "start fewer, or use train.device=cpu"
        )
    if tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices(gpus[number : number + 1], "GPU")
    for gpu in gpus[number : number + 1]:
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus and len(here) > 1:
        tf.config.threading.set_intra_op_parallelism_threads(max(1, CORES // len(here)))


def device_name() -> str:
    """Of what this process computes on, for the report."""
    import tensorflow as tf

    for gpu in tf.config.get_visible_devices("GPU"):
        return str(tf.config.experimental.get_device_details(gpu).get("device_name", "GPU"))
    return "CPU"
