"""All that a run imports: importing this is what a run needn't wait for any more."""

import importlib

from pipelines.runs.native_output import suppressed_native_stderr

with suppressed_native_stderr():
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
