"""All that a run imports: importing this is what a run needn't wait for any more."""

import importlib

from pipelines.quiet import native_messages_dropped

with native_messages_dropped():
    for name in (
        "hydra._internal.hydra", "pipelines.sweeping.sweeper",
        "tensorflow", "keras", "pipelines.devices", "pipelines.pipeline", "pipelines.prepare",
        "pipelines.train", "pipelines.graphs", "pipelines.evaluate", "pipelines.export",
        "pipelines.report", "pipelines.tracking", "pipelines.comparison",
    ):  # fmt: skip
        importlib.import_module(name)
