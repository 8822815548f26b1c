"""A training from data to report: by the chief, or by a process that is alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pipelines.config.restore import save_config
from pipelines.config.schema import Config
from pipelines.distributed.cluster import cluster, others_started
from pipelines.distributed.tensorflow import import_tensorflow
from pipelines.runs.directory import Run
from pipelines.runs.measurements import Record
from pipelines.runs.tracking import tracked
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


def run_as_chief(config: Config, run: Run, values: dict[str, Any]) -> None:
    """All stages; `values` is the configuration in the form that other workers get it in."""
    with run.lock():
        save_config(run, values)
        log.info("Run directory: %s", run.directory)
        with tracked(run, config.train.mlflow, given=identity(config)):
            record = Record(run)
            data, model = prepare_and_train(config, record, values)
            run_after_training(config, data, model, record)


def prepare_and_train(
    config: Config, record: Record, values: dict[str, Any]
) -> tuple[Prepared, keras.Model]:
    """With the workers that there are."""
    together = cluster(config.train.workers)
    with others_started(together, config.train.device) as others:
        import_tensorflow(config.train.device, together)
        from pipelines.distributed.workers import Workers

        workers = Workers(together, others)
        with workers.raise_on_lost_worker():
            workers.told([values, str(record.run.directory.resolve())])
            with record.stage("prepare"):
                data = prepare_data(config, record)
            workers.wait()
            with record.stage("train"):
                model = train_model(config, data, record.run, workers, record)
    return data, model


def run_after_training(config: Config, data: Prepared, model: keras.Model, record: Record) -> None:
    export_model(config, data, model, record)
    evaluate_model(config, data, model, record)
    write_model_card(config, data, record)
