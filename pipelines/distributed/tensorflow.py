"""TensorFlow without its start-up chatter, which would bury what a person needs to read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipelines.runs.native_output import suppressed_native_stderr

if TYPE_CHECKING:
    from pipelines.distributed.cluster import Cluster


def import_tensorflow(device: str = "auto", cluster: Cluster | None = None) -> None:
    """Imports TensorFlow and starts its runtime, quietly. Errors in doing so are still raised.

    With a cluster the runtime isn't started: it is by forming the cluster.
    """
    with suppressed_native_stderr():
        import tensorflow as tf

        from pipelines.distributed.devices import choose_device

        choose_device(device, cluster)
        if cluster is None:
            tf.config.list_logical_devices()
        import keras  # noqa: F401
    # "Assets written to" and renamed signature inputs; ours says where the export lies.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
