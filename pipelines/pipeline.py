"""A run from top to bottom: each line reads what the lines above made."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig

from pipelines.cluster import Cluster, cluster, is_other, others_started
from pipelines.contracts import Split, UserError
from pipelines.interruption import terminate_like_ctrl_c
from pipelines.measurements import Stopwatch
from pipelines.quiet import import_tensorflow
from pipelines.run import Run, load_model, restored, save_config, settings_of_run
from pipelines.schema import Config, check, parse
from pipelines.stages import described, encoded, exported, facts, measured, prepared, trained
from pipelines.tasks import Task
from pipelines.tracking import tracked

if TYPE_CHECKING:
    import keras

    from pipelines.prepare import Prepared

log = logging.getLogger(__name__)


def run(composed: DictConfig, overrides: Sequence[str], directory: str) -> None:
    """Does what config.mode says, in `directory`. Raises UserError for mistakes."""
    values = restored(composed, overrides)
    config = parse(values)
    check(config)
    run = Run(config.run or directory)
    terminate_like_ctrl_c()
    if config.mode == "serve":
        serve(config)
        return
    if config.mode == "compare":
        compare(config, values)
        return
    if config.mode == "predict":
        import_tensorflow()
        predict(config, run)
        return
    if is_other(config.train.workers):
        help_chief(config)
        return
    modes: dict[str, Callable[[Config, Run], None]] = {"evaluate": evaluate, "export": export}
    try:
        if config.mode == "train" and config.train.ray:
            from pipelines.ray_trainer import fit

            fit(config, run, values)
        elif config.mode == "train":
            lead(config, run, values)
        else:
            with run.held():
                import_tensorflow()
                modes[config.mode](config, run)
    except (UserError, OSError) as error:
        # The directory was empty or not there before: `check` saw to that.
        if config.run is None and not run.codec.exists():
            shutil.rmtree(run.directory, ignore_errors=True)  # it holds nothing but the question
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{error.filename or run.directory}: {error.strerror}") from error
        raise


def lead(config: Config, run: Run, values: dict[str, Any]) -> None:
    """What the chief does, or a process that is alone."""
    with run.held():
        save_config(run, values)
        train(config, run, values)


def train(config: Config, run: Run, values: dict[str, Any]) -> None:
    """All stages, from data to report; `values` is the configuration as other workers get it."""
    watch = Stopwatch(run)
    log.info("Run directory: %s", run.directory)
    together = cluster(config.train.workers)
    with tracked(run, config.train.mlflow, given=facts(config)):
        with others_started(together, config.train.device) as others:
            import_tensorflow(config.train.device, together)
            from pipelines.workers import Workers

            workers = Workers(together, others)
            with workers.losses_told():
                workers.told([values, str(run.directory.resolve())])
                with watch("prepare"):
                    data = prepared(config, run)
                workers.wait()
                with watch("train"):
                    model = trained(config, data, run, workers)
        finish(config, data, model, run, watch)


def help_chief(config: Config) -> None:
    """What this process does as a worker that isn't the chief: its part of training, if any."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL + 1)  # the run's log is the chief's
    if config.mode == "train":
        from pipelines.worker import work

        made = cluster(config.train.workers)
        work(cast(Cluster, made), config.train.device)
    else:
        log.info("mode=%s is the chief's alone: nothing to do for this worker", config.mode)


def evaluate(config: Config, run: Run) -> None:
    """Measures a trained run again, and makes its report again."""
    model = load_model(run)
    watch = Stopwatch(run)
    with watch("prepare"):
        data = prepared(config, run)
    measured(config, data, model, run, watch)
    described(config, data, run)


def export(config: Config, run: Run) -> None:
    """Writes a trained run's SavedModel again."""
    model = load_model(run)
    watch = Stopwatch(run)
    with watch("prepare"):
        data = prepared(config, run)
    exported(config, data, model, run, watch)
    described(config, data, run)


def predict(config: Config, run: Run) -> None:
    """Answers for `input`, as JSON lines, by the run's SavedModel."""
    from pipelines.predict import predict

    predict(run, config.task, config.data, config.input, config.output)


def serve(config: Config) -> None:
    """Answers over HTTP, by the runs' SavedModels, until it is told to end."""
    from pipelines.serving.server import serve

    serve(str(config.run), config.serve)


def compare(config: Config, values: Mapping[str, Any]) -> None:
    """Sets runs beside one another: a page, Markdown, CSV."""
    from pipelines.comparing.leaderboard import leaderboard

    def split_of(run: Run, name: str) -> tuple[Task, Split]:
        import_tensorflow()
        own = parse(settings_of_run(run, values))
        return own.task, encoded(own).splits[name]

    for handler in list(logging.getLogger().handlers):
        if isinstance(handler, logging.FileHandler):
            logging.getLogger().removeHandler(handler)  # it would write into the user's directory
    leaderboard(str(config.runs), config.output, split_of)


def finish(config: Config, data: Prepared, model: keras.Model, run: Run, watch: Stopwatch) -> None:
    """What comes after training."""
    exported(config, data, model, run, watch)
    measured(config, data, model, run, watch)
    described(config, data, run)
