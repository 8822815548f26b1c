"""A training from data to report: by the chief, or by a process alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pipelines.config.restore import save_config
from pipelines.config.schema import Config
from pipelines.distributed.cluster import resolve_cluster, spawn_workers
from pipelines.distributed.tensorflow import import_tensorflow
from pipelines.runs.directory import Run
from pipelines.runs.measurements import Stopwatch
from pipelines.runs.tracking import tracked
from pipelines.stages import (
    describe_model,
    evaluate_model,
    export_model,
    prepare_data,
    run_metadata,
    train_model,
)

if TYPE_CHECKING:
    import keras

    from pipelines.data.prepare import Prepared

log = logging.getLogger(__name__)


def run_as_chief(config: Config, run: Run, values: dict[str, Any]) -> None:
    """Trains as the chief of several workers, or as the only process."""
    with run.lock():
        save_config(run, values)
        run_stages(config, run, values)


def run_stages(config: Config, run: Run, values: dict[str, Any]) -> None:
    """Runs all stages, from data to report. values: the configuration, for the other workers."""
    stopwatch = Stopwatch(run)
    log.info("Run directory: %s", run.directory)
    cluster = resolve_cluster(config.train.workers)
    with tracked(run, config.train.mlflow, given=run_metadata(config)):
        with spawn_workers(cluster, config.train.device) as processes:
            import_tensorflow(config.train.device, cluster)
            from pipelines.distributed.workers import Workers

            workers = Workers(cluster, processes)
            with workers.raise_on_lost_worker():
                workers.broadcast([values, str(run.directory.resolve())])
                with stopwatch("prepare"):
                    data = prepare_data(config, run)
                workers.barrier()  # the others read what was prepared
                with stopwatch("train"):
                    model = train_model(config, data, run, workers)
        run_after_training(config, data, model, run, stopwatch)


def run_after_training(
    config: Config, data: Prepared, model: keras.Model, run: Run, stopwatch: Stopwatch
) -> None:
    """Exports, evaluates and describes the trained model."""
    export_model(config, data, model, run, stopwatch)
    evaluate_model(config, data, model, run, stopwatch)
    describe_model(config, data, run)
