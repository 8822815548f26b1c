"""Imports everything that a run imports; runs forked from a process with this module start fast."""

import importlib

from pipelines.runs.native_output import suppress_native_stderr

with suppress_native_stderr():
    for name in (
        "hydra._internal.hydra",
        "pipelines.sweep.hydra_sweeper",
        "tensorflow",
        "keras",
        "pipelines.distributed.devices",
        "pipelines.pipeline",
        "pipelines.data.prepare",
        "pipelines.train.loop",
        "pipelines.graphs.prediction",
        "pipelines.evaluate.evaluation",
        "pipelines.evaluate.against",
        "pipelines.export.saved_model",
        "pipelines.report.run_report",
        "pipelines.runs.tracking",
    ):
        importlib.import_module(name)
