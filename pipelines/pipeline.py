"""A run from top to bottom: each line reads what the lines above made."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig

from models.seeds import stream
from pipelines.cluster import Cluster, cluster, is_other, others_started
from pipelines.contracts import Codec, Split, UserError
from pipelines.interruption import terminate_like_ctrl_c
from pipelines.measurements import Stopwatch, environment, peak_memory
from pipelines.quiet import import_tensorflow
from pipelines.run import Run, load_model, restored, save_config, settings_of_run
from pipelines.schema import Config, check, parse
from pipelines.tasks import Task
from pipelines.tracking import tracked

if TYPE_CHECKING:
    import keras

    from models.settings import RecurrentSettings
    from pipelines.diagnostics.stage import Diagnosis
    from pipelines.prepare import Prepared
    from pipelines.workers import Workers

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


def prepared(config: Config, run: Run, *, writes: bool = True) -> Prepared:
    """The encoded data; the codec is kept with the run, or taken from it."""
    from pipelines.comparison import check_same_examples
    from pipelines.evaluate import reported_split

    task = config.task
    data = encoded(config)
    before = run.read_metrics().get("data", {}).get("fingerprint")
    if before is not None and before != data.content:
        raise UserError(
            f"the data, or how it is prepared, has changed since {run.directory} was made: "
            "start a new run, or bring the data back"
        )
    if data.reused:
        log.info("prepare: reused what an earlier run prepared")
    against = config.evaluate.against
    if against is not None and config.mode in ("train", "evaluate"):
        split = data.splits[reported_split(config.evaluate)]
        check_same_examples(against, task, data.codec, split)
    if run.codec.exists():
        # What was saved with the model is what it is used with.
        data = dataclasses.replace(data, codec=Codec(task.codec()).load(run.codec))
    else:
        data.codec.save(run.codec)
    if config.mode == "train" and writes:
        run.update_metrics(data={"fingerprint": data.content, **data.report}, **facts(config))
    return data


def encoded(config: Config) -> Prepared:
    """The data as the task wants it, from the cache if it was prepared before."""
    from pipelines.prepare import prepare

    task = config.task
    return prepare(
        config.data,
        task.codec(),
        reads=task.reads,
        identity=task.identity,
        stratify=task.stratify,
        together=task.together,
        settings=config.prepare,
        cleaning=task.cleaning,
    )


def trained(config: Config, data: Prepared, run: Run, workers: Workers) -> keras.Model:
    """The model with its best weights, which the chief has."""
    import keras
    import tensorflow as tf

    from pipelines.graphs import Predictor
    from pipelines.tracking import write_hyperparameters
    from pipelines.train import train

    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(stream(config.seed, "keras"))
    keras.config.set_dtype_policy(config.train.precision)
    model = built(config, data)
    log.info("%s", describe(config, data, model))
    try:
        state, throughput = train(
            config.task,
            model,
            data.splits,
            data.codec,
            settings=config.train,
            predict=Predictor(config.task, model, data.codec, config.decode.quick()),
            evaluation_tokens=config.evaluate.batch_tokens,
            seed=config.seed,
            run=run,
            workers=workers,
        )
    finally:
        if workers.is_chief and config.train.tensorboard and run.tensorboard.is_dir():
            write_hyperparameters(run, given=facts(config))
    if not workers.is_chief:
        return model
    run.update_metrics(
        **throughput,
        training=how_trained(config, workers),
        epochs={"trained": state.epoch, "best_step": state.best_step},
        parameters={
            "total": model.count_params(),
            "trainable": sum(math.prod(v.shape) for v in model.trainable_variables),
        },
        memory={"train_peak_mb": peak_memory()},
    )
    return model


def how_trained(config: Config, workers: Workers) -> dict[str, Any]:
    """By how many, on what, and whether the same command gives the same bits."""
    from pipelines.devices import device_name

    device = device_name()
    return {
        "workers": workers.number,
        "device": device,
        "precision": config.train.precision,
        "deterministic": config.train.deterministic or device == "CPU",
    }


def built(config: Config, data: Prepared) -> keras.Model:
    """The model as training finds it, the same whenever it is made: every weight has its seed."""
    from pipelines.budget import within_budget

    def build(settings: RecurrentSettings) -> keras.Model:
        return config.task.build(settings, data.codec, stream(config.seed, "weights"))

    return build(within_budget(config.model, build))


def exported(
    config: Config, data: Prepared, model: keras.Model, run: Run, watch: Stopwatch
) -> None:
    """The SavedModel, asked again in a fresh process."""
    from pipelines.export import export

    if config.export.saved_model:
        with watch("export"):
            export(config.task, model, data, config.decode, settings=config.export, run=run)
    if config.export.formats:
        from pipelines.formats import export_formats

        with watch("formats"):
            rows = export_formats(
                config.task, model, data, config.decode, settings=config.export, run=run
            )
        run.update_metrics(exports=rows)
    elif run.exports.exists():
        shutil.rmtree(run.exports)  # of other weights, it may be, than the SavedModel
        run.update_metrics(exports=[])


def measured(
    config: Config, data: Prepared, model: keras.Model, run: Run, watch: Stopwatch
) -> None:
    """Scores, baselines and the report."""
    from pipelines.evaluate import evaluate, reported_split
    from pipelines.graphs import Predictor
    from pipelines.report import report

    task = config.task
    with watch("evaluate"):
        evaluation = evaluate(
            task,
            Predictor(task, model, data.codec, config.decode),
            data.codec,
            data.splits,
            config.evaluate,
            seed=stream(config.seed, "bootstrap"),
            predictions_file=run.predictions,
        )
        sections = []
        if config.evaluate.diagnostics:
            name = reported_split(config.evaluate)
            sections = task.diagnose(
                model, evaluation.predictions[name], data.splits[name], data.codec, config.decode
            )
    run.update_metrics(**evaluation.metrics, memory={"peak_resident_mb": peak_memory()})
    diagnosis = None
    if config.evaluate.diagnostics:
        with watch("diagnose"):
            diagnosis = diagnosed(config, data, model, run)
    with watch("report"):
        report(
            run.directory,
            metrics=run.read_metrics(),
            history=run.read_history(),
            sections=sections,
            remembered=diagnosis.sections if diagnosis else [],
            warnings=diagnosis.warnings if diagnosis else [],
            provenance=config.data.provenance(),
            config_yaml=run.config.read_text(encoding="utf-8"),
        )
    log.info("Report: %s", run.report)


def diagnosed(config: Config, data: Prepared, model: keras.Model, run: Run) -> Diagnosis:
    """What the model remembers, and how its gradients went."""
    from pipelines.diagnostics.stage import diagnose, draw_curves
    from pipelines.evaluate import reported_split

    made = diagnose(
        config.task,
        model,
        lambda: built(config, data),
        data.splits[reported_split(config.evaluate)],
        data.codec,
        run,
        settings=config.model,
        clip_norm=config.train.clip_norm,
        resamples=config.evaluate.resamples,
        seed=stream(config.seed, "bootstrap"),
    )
    run.update_metrics(diagnostics={**made.metrics, "warnings": made.warnings})
    if config.train.tensorboard:
        step = run.read_metrics().get("epochs", {}).get("best_step", 0)
        draw_curves(run.tensorboard / "diagnostics", made, step)
    return made


def described(config: Config, data: Prepared, run: Run) -> None:
    """The model card, once all is known: it lies with the SavedModel but has the scores too."""
    from pipelines.card import write_card
    from pipelines.report import title

    # What is there although none was to be written is of earlier weights than the scores.
    if config.export.saved_model and run.saved_model.exists():
        write_card(run, config.task, data.codec, title(run.read_metrics()))
        log.info("Model card: %s", run.card)


def facts(config: Config) -> dict[str, Any]:
    """What identifies a run, and where it was made."""
    return {
        "task": config.task.name,
        "model": f"{'bi_' if config.model.bidirectional else ''}{config.model.cell}",
        "seed": config.seed,
        "command": " ".join(["python", *sys.argv]),
        **environment(),
    }


def describe(config: Config, data: Prepared, model: keras.Model) -> str:
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
    return f"{config.task.name}: {sizes}; {model.count_params():,} parameters"
