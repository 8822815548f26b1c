"""A training from data to report: by the chief, or by a process alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pipelines.config.restore import save_config
from pipelines.config.schema import Config
from pipelines.distributed.cluster import cluster, others_started
from pipelines.distributed.tensorflow import import_tensorflow
from pipelines.runs.directory import Run
from pipelines.runs.measurements import Stopwatch
from pipelines.runs.tracking import track_run
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
    """What the chief does, or a process that is alone."""
    with run.lock():
        save_config(run, values)
        train(config, run, values)


def train(config: Config, run: Run, values: dict[str, Any]) -> None:
    """All stages, from data to report; `values` is the configuration as other workers get it."""
    watch = Stopwatch(run)
    log.info("Run directory: %s", run.directory)
    together = cluster(config.train.workers)
    with track_run(run, config.train.mlflow, given=run_metadata(config)):
        with others_started(together, config.train.device) as others:
            import_tensorflow(config.train.device, together)
            from pipelines.distributed.workers import Workers

            workers = Workers(together, others)
            with workers.raise_on_lost_worker():
                workers.told([values, str(run.directory.resolve())])
                with watch("prepare"):
                    data = prepare_data(config, run)
                workers.wait()
                with watch("train"):
                    model = train_model(config, data, run, workers)
        run_after_training(config, data, model, run, watch)


def run_after_training(
    config: Config, data: Prepared, model: keras.Model, run: Run, watch: Stopwatch
) -> None:
    """What comes after training."""
    export_model(config, data, model, run, watch)
    evaluate_model(config, data, model, run, watch)
    describe_model(config, data, run)
