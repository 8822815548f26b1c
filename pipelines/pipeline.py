"""A run from top to bottom: each line reads what the lines above made."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from pipelines.config.restore import load_run_config, resolve_config
from pipelines.config.schema import Config, check, parse
from pipelines.core.contracts import Split
from pipelines.core.errors import UserError
from pipelines.core.task import Task
from pipelines.core.types import Config as Values
from pipelines.distributed.cluster import is_non_chief
from pipelines.distributed.tensorflow import import_tensorflow
from pipelines.launch.chief import run_as_chief
from pipelines.launch.worker import run_as_worker
from pipelines.runs.directory import Run, load_model
from pipelines.runs.logs import stop_logging_to_files
from pipelines.runs.measurements import Record
from pipelines.runs.signals import sigterm_as_interrupt
from pipelines.stages import (
    check_model,
    evaluate_model,
    export_model,
    load_encoded_data,
    prepare_data,
    write_model_card,
)

log = logging.getLogger(__name__)


def run(composed: DictConfig, overrides: Sequence[str], directory: str) -> None:
    """Runs config.mode in `directory`. Raises UserError for mistakes."""
    values = resolve_config(composed, overrides)
    config = parse(values)
    check(config)
    run = Run(config.run or directory)
    sigterm_as_interrupt()
    if config.mode == "serve":
        serve(config)
        return
    if config.mode == "compare":
        compare(config, values)
        return
    if config.mode == "predict":
        predict(config, run)
        return
    if is_non_chief(config.train.workers):
        run_as_worker(config)
        return
    modes: dict[str, Callable[[Config, Run], None]] = {"evaluate": evaluate, "export": export}
    try:
        if config.mode == "train" and config.train.ray:
            from pipelines.launch.ray_trainer import fit

            fit(config, run, values)
        elif config.mode == "train":
            run_as_chief(config, run, values)
        else:
            with run.lock():
                import_tensorflow()
                modes[config.mode](config, run)
    except (UserError, OSError) as error:
        # The directory was empty or not there before: `check` saw to that.
        if config.run is None and not run.codec.exists():
            shutil.rmtree(run.directory, ignore_errors=True)  # it holds nothing but the question
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{error.filename or run.directory}: {error.strerror}") from error
        raise


def evaluate(config: Config, run: Run) -> None:
    """Measures a trained run again, and makes its report again."""
    model, record = load_model(run), Record(run)
    with record.stage("prepare"):
        data = prepare_data(config, record)
        check_model(config, data, model, record)
    evaluate_model(config, data, model, record)
    write_model_card(config, data, record)


def export(config: Config, run: Run) -> None:
    """Writes a trained run's SavedModel again."""
    model, record = load_model(run), Record(run)
    with record.stage("prepare"):
        data = prepare_data(config, record)
        check_model(config, data, model, record)
    export_model(config, data, model, record)
    write_model_card(config, data, record)


def predict(config: Config, run: Run) -> None:
    """Answers for `input`, as JSON lines, by the run's SavedModel."""
    from pipelines.predict.predict import predict

    predict(run, config.task, config.data, config.input, config.output, config.predict)


def serve(config: Config) -> None:
    """Answers over HTTP, by the runs' SavedModels, until a signal ends it."""
    from pipelines.serve.server import serve

    serve(str(config.run), config.serve)


def compare(config: Config, values: Values) -> None:
    """Compares runs: a page, Markdown, CSV."""
    from pipelines.compare.leaderboard import write_leaderboards

    def split_of(run: Run, name: str) -> tuple[Task, Split]:
        import_tensorflow()
        own = parse(load_run_config(run, values))
        return own.task, load_encoded_data(own).splits[name]

    stop_logging_to_files()
    write_leaderboards(str(config.runs), config.output, split_of)
