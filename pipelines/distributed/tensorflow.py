"""Importing TensorFlow without its start-up messages, which would bury what a person must read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipelines.runs.native_output import suppress_native_stderr

if TYPE_CHECKING:
    from pipelines.distributed.cluster import Cluster


def import_tensorflow(device: str = "auto", cluster: Cluster | None = None) -> None:
    """Imports TensorFlow and starts its runtime, quietly. Errors are still raised.

    With a cluster, forming the cluster starts the runtime later.
    """
    with suppress_native_stderr():
        import tensorflow as tf

        from pipelines.distributed.devices import choose_device

        choose_device(device, cluster)
        if cluster is None:
            tf.config.list_logical_devices()
        import keras  # noqa: F401
    # Silences "Assets written to" and renamed signature inputs: our log says where the export is.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
