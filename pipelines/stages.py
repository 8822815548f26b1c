"""The stages of a run, each with its part of the configuration; pipeline.py puts them in order."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import sys
from typing import TYPE_CHECKING, Any

from models.seeds import stream
from pipelines.config.schema import Config
from pipelines.core.contracts import Codec
from pipelines.core.errors import UserError
from pipelines.runs.directory import Run
from pipelines.runs.measurements import Stopwatch, environment, peak_memory

if TYPE_CHECKING:
    import keras

    from models.settings import RecurrentSettings
    from pipelines.data.prepare import Prepared
    from pipelines.distributed.workers import Workers
    from pipelines.evaluate.diagnostics.diagnose import Diagnosis

log = logging.getLogger(__name__)


def prepare_data(config: Config, run: Run, *, writes: bool = True) -> Prepared:
    """The encoded data; the codec is kept with the run, or taken from it."""
    from pipelines.evaluate.against import check_same_examples
    from pipelines.evaluate.evaluation import reported_split

    task = config.task
    data = load_encoded_data(config)
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
        run.update_metrics(
            data={"fingerprint": data.content, **data.report}, **run_metadata(config)
        )
    return data


def load_encoded_data(config: Config) -> Prepared:
    """The data as the task wants it, from the cache if it was prepared before."""
    from pipelines.data.prepare import prepare

    task = config.task
    return prepare(
        config.data,
        task.codec(),
        reads=task.columns,
        identity=task.dedupe_by,
        stratify=task.stratify_by,
        together=task.group_by,
        settings=config.prepare,
        cleaning=task.cleaning,
    )


def train_model(config: Config, data: Prepared, run: Run, workers: Workers) -> keras.Model:
    """The model with its best weights, which the chief has."""
    import keras
    import tensorflow as tf

    from pipelines.graphs.prediction import Predictor
    from pipelines.runs.tracking import write_hyperparameters
    from pipelines.train.job import TrainingJob
    from pipelines.train.loop import train

    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(stream(config.seed, "keras"))
    keras.config.set_dtype_policy(config.train.precision)
    model = build_model(config, data)
    log.info("%s", describe(config, data, model))
    try:
        job = TrainingJob(
            task=config.task,
            model=model,
            codec=data.codec,
            splits=data.splits,
            settings=config.train,
            predict=Predictor(config.task, model, data.codec, config.decode.quick()),
            evaluation_tokens=config.evaluate.batch_tokens,
            seed=config.seed,
            run=run,
            workers=workers,
        )
        state, throughput = train(job)
    finally:
        if workers.is_chief and config.train.tensorboard and run.tensorboard.is_dir():
            write_hyperparameters(run, given=run_metadata(config))
    if not workers.is_chief:
        return model
    run.update_metrics(
        **throughput,
        training=training_metadata(config, workers),
        epochs={"trained": state.epoch, "best_step": state.best_step},
        parameters={
            "total": model.count_params(),
            "trainable": sum(math.prod(v.shape) for v in model.trainable_variables),
        },
        memory={"train_peak_mb": peak_memory()},
    )
    return model


def training_metadata(config: Config, workers: Workers) -> dict[str, Any]:
    """By how many, on what, and whether the same command gives the same bits."""
    from pipelines.distributed.devices import device_name

    device = device_name()
    return {
        "workers": workers.number,
        "device": device,
        "precision": config.train.precision,
        "deterministic": config.train.deterministic or device == "CPU",
    }


def build_model(config: Config, data: Prepared) -> keras.Model:
    """The model as training finds it, the same whenever it is made: every weight has its seed."""
    from pipelines.train.parameter_budget import fit_width

    def build(settings: RecurrentSettings) -> keras.Model:
        return config.task.build(settings, data.codec, stream(config.seed, "weights"))

    return build(fit_width(config.model, build))


def export_model(
    config: Config, data: Prepared, model: keras.Model, run: Run, watch: Stopwatch
) -> None:
    """The SavedModel, asked again in a fresh process."""
    from pipelines.export.saved_model import export

    if config.export.saved_model:
        with watch("export"):
            export(config.task, model, data, config.decode, settings=config.export, run=run)
    if config.export.formats:
        from pipelines.export.formats import export_formats

        with watch("formats"):
            rows = export_formats(
                config.task, model, data, config.decode, settings=config.export, run=run
            )
        run.update_metrics(exports=rows)
    elif run.exports.exists():
        shutil.rmtree(run.exports)  # of other weights, it may be, than the SavedModel
        run.update_metrics(exports=[])


def evaluate_model(
    config: Config, data: Prepared, model: keras.Model, run: Run, watch: Stopwatch
) -> None:
    """Scores, baselines and the report."""
    from pipelines.evaluate.evaluation import evaluate, reported_split
    from pipelines.graphs.prediction import Predictor
    from pipelines.report.run_report import report

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
            sections = task.report_sections(
                model, evaluation.predictions[name], data.splits[name], data.codec, config.decode
            )
    run.update_metrics(**evaluation.metrics, memory={"peak_resident_mb": peak_memory()})
    diagnosis = None
    if config.evaluate.diagnostics:
        with watch("diagnose"):
            diagnosis = diagnose_model(config, data, model, run)
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


def diagnose_model(config: Config, data: Prepared, model: keras.Model, run: Run) -> Diagnosis:
    """What the model remembers, and how its gradients went."""
    from pipelines.evaluate.diagnostics.diagnose import diagnose, draw_curves
    from pipelines.evaluate.evaluation import reported_split

    made = diagnose(
        config.task,
        model,
        lambda: build_model(config, data),
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


def describe_model(config: Config, data: Prepared, run: Run) -> None:
    """The model card, once all is known: it lies with the SavedModel but has the scores too."""
    from pipelines.export.model_card import write_card
    from pipelines.report.run_report import title

    # What is there although none was to be written is of earlier weights than the scores.
    if config.export.saved_model and run.saved_model.exists():
        write_card(run, config.task, data.codec, title(run.read_metrics()))
        log.info("Model card: %s", run.card)


def run_metadata(config: Config) -> dict[str, Any]:
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
