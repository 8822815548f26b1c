"""The stages of a run, each with its part of the configuration; pipeline.py puts them in order."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np

from models.seeds import stream
from pipelines.config.schema import Config
from pipelines.core.contracts import Codec
from pipelines.core.errors import UserError
from pipelines.core.saved_files import reading
from pipelines.core.task import Trained
from pipelines.runs.directory import Run
from pipelines.runs.measurements import Record, machine, peak_memory, versions
from pipelines.runs.metrics import DataFacts, Epochs, Parameters, RunMetrics, Training

if TYPE_CHECKING:
    import keras

    from models.settings import RecurrentSettings
    from pipelines.data.prepare import Prepared
    from pipelines.distributed.workers import Workers
    from pipelines.evaluate.diagnostics.diagnose import Diagnosis

log = logging.getLogger(__name__)


def prepare_data(config: Config, record: Record) -> Prepared:
    """The encoded data, and the codec that the run keeps."""
    from pipelines.evaluate.against import check_same_examples
    from pipelines.evaluate.evaluation import reported_split

    task, run, metrics = config.task, record.run, record.metrics
    data = load_encoded_data(config)
    if metrics.data is not None and metrics.data.fingerprint != data.content:
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
    if not run.codec.exists():
        data.codec.save(run.codec)
    if config.mode == "train":
        metrics.data = DataFacts(fingerprint=data.content, **data.report)
        for leak in metrics.data.leaks:
            log.warning("prepare: %s", leak.sentence)
        record_facts(config, metrics)
        record.save()
    return with_codec_of(run, data, config)


def with_codec_of(run: Run, data: Prepared, config: Config) -> Prepared:
    """The data with the codec that was saved with the model, which it must be used with."""
    return dataclasses.replace(data, codec=Codec(config.task.codec()).load(run.codec))


def load_encoded_data(config: Config) -> Prepared:
    """The data as the task wants it, from the cache if it was prepared before."""
    from pipelines.data.prepare import prepare

    return prepare(config.data, config.task, config.prepare)


def train_model(
    config: Config, data: Prepared, run: Run, workers: Workers, record: Record | None
) -> keras.Model:
    """The model with its best weights, which the chief has; only the chief has a record."""
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
    # The chief's weights go to all workers; what a checkpoint holds needn't be estimated again.
    if workers.is_chief and not run.checkpoint(0).exists():
        seed = stream(config.seed, "initialize")
        config.task.initialize(model, data.splits["train"], data.codec, seed)
    log.info("%s", describe(config, data, model))
    try:
        job = TrainingJob(
            task=config.task,
            model=model,
            codec=data.codec,
            splits=data.splits,
            settings=config.train,
            predict=Predictor(Trained(config.task, model, data.codec, config.decode.to_greedy())),
            evaluation_tokens=config.evaluate.batch_tokens,
            seed=config.seed,
            run=run,
            workers=workers,
        )
        result = train(job)
    finally:
        if workers.is_chief and config.train.tensorboard and run.tensorboard.is_dir():
            write_hyperparameters(run, settings=identity(config))
    if record is not None:
        metrics = record.metrics
        result.record(metrics)
        metrics.training = training_metadata(config, workers)
        metrics.epochs = Epochs(trained=result.state.epoch, best_step=result.state.best_step)
        metrics.parameters = Parameters(
            total=model.count_params(),
            trainable=sum(math.prod(v.shape) for v in model.trainable_variables),
        )
        metrics.memory["train_peak_mb"] = peak_memory()
    return model


def training_metadata(config: Config, workers: Workers) -> Training:
    """Number of workers, device, and whether the same command gives the same bits."""
    from pipelines.distributed.devices import device_name

    device = device_name()
    return Training(
        workers=workers.count,
        device=device,
        precision=config.train.precision,
        deterministic=config.train.deterministic or device == "CPU",
    )


def build_model(config: Config, data: Prepared) -> keras.Model:
    """The untrained model, always with the same weights: every weight has its seed."""
    from pipelines.train.parameter_budget import fit_width

    def build(settings: RecurrentSettings) -> keras.Model:
        return config.task.build(settings, data.codec, stream(config.seed, "weights"))

    return build(fit_width(config.model, build))


def check_model(config: Config, data: Prepared, model: keras.Model, record: Record) -> None:
    """Raises DamagedError unless the model that was loaded is the run's: it predicts an example."""
    from pipelines.graphs.prediction import gather_batch, prediction_inputs

    run, parameters = record.run, record.metrics.parameters
    trained = Trained(config.task, model, data.codec, config.decode.to_greedy())
    with reading(run.model, f"resume with mode=train run={run.directory}"):
        if parameters is not None and model.count_params() != parameters.total:
            raise ValueError(
                f"it has {model.count_params():,} parameters, not {parameters.total:,} as trained"
            )
        batch = gather_batch(trained, data.splits["test"], np.zeros(1, int))
        predictions = config.task.predict(trained, prediction_inputs(trained, batch.inputs))
        config.task.decode_predictions(predictions, data.codec)


def export_model(config: Config, data: Prepared, model: keras.Model, record: Record) -> None:
    """Exports the SavedModel, verified in a fresh process, and files of other formats."""
    from pipelines.export.saved_model import export

    run = record.run
    trained = Trained(config.task, model, data.codec, config.decode)
    if config.export.saved_model:
        with record.stage("export"):
            export(trained, data.splits["test"], config.export, run)
    if config.export.formats:
        from pipelines.export.formats import export_formats

        with record.stage("formats"):
            record.metrics.exports = export_formats(
                trained, data.splits["test"], config.export, run
            )
    elif run.exports.exists():
        shutil.rmtree(run.exports)  # they may be of other weights than the SavedModel
        record.metrics.exports = []
        record.save()


def evaluate_model(config: Config, data: Prepared, model: keras.Model, record: Record) -> None:
    """Scores, baselines and the report."""
    from pipelines.evaluate.evaluation import evaluate, reported_split
    from pipelines.graphs.prediction import Predictor
    from pipelines.report.run_report import ReportContent, report

    run = record.run
    trained = Trained(config.task, model, data.codec, config.decode)
    with record.stage("evaluate"):
        evaluation = evaluate(
            Predictor(trained),
            data.splits,
            config.evaluate,
            seed=stream(config.seed, "bootstrap"),
            predictions_file=run.predictions,
        )
        sections = []
        if config.evaluate.diagnostics:
            name = reported_split(config.evaluate)
            sections = config.task.report_sections(
                trained, evaluation.predictions[name], data.splits[name]
            )
        evaluation.record(record.metrics)
        record.metrics.memory["peak_resident_mb"] = peak_memory()
    diagnosis = None
    if config.evaluate.diagnostics:
        with record.stage("diagnose"):
            diagnosis = diagnose_model(config, data, trained, record)
    with record.stage("report"):
        content = ReportContent(
            metrics=record.metrics,
            history=run.read_history(),
            sections=sections,
            remembered=diagnosis.sections if diagnosis else [],
            warnings=diagnosis.warnings if diagnosis else [],
            provenance=config.data.provenance(),
            config_yaml=run.config.read_text(encoding="utf-8"),
        )
        report(run.directory, content)
    log.info("Report: %s", run.report)


def diagnose_model(config: Config, data: Prepared, trained: Trained, record: Record) -> Diagnosis:
    """Diagnoses the model's memory and its gradients."""
    from pipelines.evaluate.bootstrap import Resampling
    from pipelines.evaluate.diagnostics.diagnose import TrainingFacts, diagnose, draw_curves
    from pipelines.evaluate.evaluation import reported_split

    metrics = record.metrics
    best_step = metrics.epochs.best_step if metrics.epochs else 0
    diagnosis = diagnose(
        trained,
        data.splits[reported_split(config.evaluate)],
        TrainingFacts(
            run=record.run,
            build=lambda: build_model(config, data),
            settings=config.model,
            best_step=best_step,
            clip_norm=config.train.clip_norm,
        ),
        Resampling(config.evaluate.resamples, stream(config.seed, "bootstrap")),
    )
    metrics.diagnostics = {**diagnosis.metrics, "warnings": diagnosis.warnings}
    if config.train.tensorboard:
        draw_curves(record.run.tensorboard / "diagnostics", diagnosis, best_step)
    return diagnosis


def write_model_card(config: Config, data: Prepared, record: Record) -> None:
    """Writes the model card into the SavedModel, once the scores are known."""
    from pipelines.export.model_card import write_card
    from pipelines.report.run_report import title

    run, metrics = record.run, record.metrics
    # A SavedModel that was not to be written is of earlier weights than the scores.
    if config.export.saved_model and run.saved_model.exists():
        write_card(run, metrics, config.task, data.codec, title(metrics))
        log.info("Model card: %s", run.card)


def identity(config: Config) -> dict[str, str | int]:
    """The identity of a run: task, model and seed."""
    direction = "bi_" if config.model.bidirectional else ""
    return {
        "task": config.task.name,
        "model": f"{direction}{config.model.cell}",
        "seed": config.seed,
    }


def record_facts(config: Config, metrics: RunMetrics) -> None:
    """Records the identity of a run, and its machine."""
    for name, value in identity(config).items():
        setattr(metrics, name, value)
    metrics.command = " ".join(["python", *sys.argv])
    metrics.versions, metrics.machine = versions(), machine()


def describe(config: Config, data: Prepared, model: keras.Model) -> str:
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
    return f"{config.task.name}: {sizes}; {model.count_params():,} parameters"
