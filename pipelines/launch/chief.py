"""A training from data to report: by the chief, or by a process that is alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipelines.config.restore import save_config
from pipelines.config.schema import Config
from pipelines.core.types import Config as Values
from pipelines.distributed.cluster import resolve_cluster, spawn_workers
from pipelines.distributed.tensorflow import import_tensorflow
from pipelines.runs.directory import Run
from pipelines.runs.measurements import Record
from pipelines.runs.tracking import track_run
from pipelines.stages import (
    evaluate_model,
    export_model,
    identity,
    prepare_data,
    train_model,
    write_model_card,
)

if TYPE_CHECKING:
    import keras

    from pipelines.data.prepare import Prepared

log = logging.getLogger(__name__)


def run_as_chief(config: Config, run: Run, values: Values) -> None:
    """Trains as the chief of several workers, or as the only process, and evaluates.

    values  the configuration, as the other workers get it.
    """
    with run.lock():
        save_config(run, values)
        log.info("Run directory: %s", run.directory)
        with track_run(run, config.train.mlflow, settings=identity(config)):
            record = Record(run)
            data, model = prepare_and_train(config, record, values)
            run_after_training(config, data, model, record)


def prepare_and_train(
    config: Config, record: Record, values: Values
) -> tuple[Prepared, keras.Model]:
    """Prepares the data and trains the model, with the available workers."""
    cluster = resolve_cluster(config.train.workers)
    with spawn_workers(cluster, config.train.device) as processes:
        import_tensorflow(config.train.device, cluster)
        from pipelines.distributed.workers import Workers

        workers = Workers(cluster, processes)
        with workers.raise_on_lost_worker():
            workers.broadcast([values, str(record.run.directory.resolve())])
            with record.stage("prepare"):
                data = prepare_data(config, record)
            workers.barrier()  # the others read what was prepared
            with record.stage("train"):
                model = train_model(config, data, record.run, workers, record)
    return data, model


def run_after_training(config: Config, data: Prepared, model: keras.Model, record: Record) -> None:
    export_model(config, data, model, record)
    evaluate_model(config, data, model, record)
    write_model_card(config, data, record)
