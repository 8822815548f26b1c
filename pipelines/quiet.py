"""TensorFlow without its start-up chatter, which would bury what a person needs to read."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.cluster import Cluster


def import_tensorflow(device: str = "auto", cluster: Cluster | None = None) -> None:
    """Imports TensorFlow and starts its runtime, quietly. Errors in doing so are still raised.

    With a cluster the runtime isn't started: it is by forming the cluster.
    """
    with native_messages_dropped():
        import tensorflow as tf

        from pipelines.devices import choose_device

        choose_device(device, cluster)
        if cluster is None:
            tf.config.list_logical_devices()
        import keras  # noqa: F401
    # "Assets written to" and renamed signature inputs; ours says where the export lies.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)


@contextmanager
def native_messages_dropped() -> Iterator[None]:
    """TensorFlow takes its level of messages from the environment when it is imported.

    Before that, libraries write to file descriptor 2 whatever is set.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
