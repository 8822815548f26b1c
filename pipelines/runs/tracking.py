"""Experiment tracking: TensorBoard's hyperparameters, and MLflow."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping

from pipelines.core.secrets import mask_passwords
from pipelines.runs.directory import Run
from pipelines.runs.metrics import numbers
from pipelines.runs.overrides import overridden_keys, recorded_overrides

log = logging.getLogger(__name__)

Setting = bool | float | str

ALWAYS_LOGGED = ("task", "model", "seed")
"""Settings that are logged even if the command line didn't set them."""

NOT_HYPERPARAMETERS = (
    *("mode=", "run=", "evaluate.", "export.", "predict.", "serve."),
    *("train.mlflow", "train.tensorboard"),
)
"""Settings that don't change the model."""


def hyperparameters(run: Run, settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """The settings of the command line, numbers as numbers, with task, model and seed."""
    values: dict[str, Setting] = {name: settings[name] for name in ALWAYS_LOGGED}
    for text in recorded_overrides(run):
        for key in overridden_keys([text]):
            if key not in ALWAYS_LOGGED and not f"{key}=".startswith(NOT_HYPERPARAMETERS):
                values[key] = _value(text.partition("=")[2])
    return values


def _value(text: str) -> Setting:
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def write_hyperparameters(run: Run, settings: Mapping[str, Setting]) -> None:
    """Writes them for TensorBoard's HPARAMS page, which compares the runs below a directory."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    writer = tf.summary.create_file_writer(str(run.tensorboard))
    with writer.as_default():
        api.hparams(hyperparameters(run, settings), trial_id=str(run.directory))
    writer.close()


@contextlib.contextmanager
def track_run(run: Run, address: str | None, settings: Mapping[str, Setting]) -> Iterator[None]:
    """Sends the run to MLflow when the `with` block ends, also with an error.

    A server that can't be reached is reported in the log, and doesn't fail the run.
    """
    if address is None:
        yield
        return
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        try:
            _send(run, address, settings, status)
        except Exception as error:  # MLflow, requests and SQLAlchemy have no common class
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            text = f"MLflow at {address} could not be written to: {reason}"
            log.warning("%s", mask_passwords(text))


def _send(run: Run, address: str, settings: Mapping[str, Setting], status: str) -> None:
    """Makes one MLflow run for a directory, in place of an earlier one for the same directory."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=address)
    name = str(settings["task"])
    experiment = client.get_experiment_by_name(name)
    identity = experiment.experiment_id if experiment else client.create_experiment(name)
    place = str(run.directory.resolve())
    for old in client.search_runs([identity], f"tags.directory = '{place}'"):
        client.delete_run(old.info.run_id)
    tags = {"directory": place, "mlflow.runName": "/".join(run.directory.parts[-2:])}
    mlflow_run = client.create_run(identity, tags=tags).info
    params = hyperparameters(run, settings)
    metrics = [
        Metric(_metric_name(key), float(value), mlflow_run.start_time, int(row["step"]))
        for row in run.read_history()
        for key, value in row.items()
        if isinstance(value, int | float) and key not in ("step", "epoch")
    ]
    for key, value in numbers(run.load_metrics()):
        metrics.append(Metric(_metric_name(f"final.{key}"), value, mlflow_run.start_time, 0))
    mlflow_params = [Param(key, str(value)[:500]) for key, value in params.items()]
    for start in range(0, max(len(metrics), 1), 1000):  # MLflow's most in one request
        part = metrics[start : start + 1000]
        client.log_batch(mlflow_run.run_id, metrics=part, params=mlflow_params if not start else [])
    # A file store would copy the report into the working directory.
    if run.report.exists() and address.startswith("http"):
        client.log_artifact(mlflow_run.run_id, str(run.report))
    client.set_terminated(mlflow_run.run_id, status)


def _metric_name(key: str) -> str:
    """MLflow accepts letters, digits and some marks only."""
    return re.sub(r"[^\w.\- /]", "_", key)
