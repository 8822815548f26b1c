"""What others keep of runs: TensorBoard's hyperparameters, and MLflow."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.runs.directory import Run
from pipelines.runs.metrics import numbers
from pipelines.runs.overrides import overridden, recorded_overrides

log = logging.getLogger(__name__)

SHOWN = ("task", "model", "seed")
"""Facts of a run that are shown whether the command line had them or not."""

ASIDE = ("mode=", "run=", "evaluate.", "export.", "serve.", "train.mlflow", "train.tensorboard")
"""Settings that make no other model."""


def hyperparameters(run: Run, given: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """What the command line set, numbers as numbers, with task, model and seed."""
    values: dict[str, bool | float | str] = {name: given[name] for name in SHOWN}
    for text in recorded_overrides(run):
        for key in overridden([text]):
            if key not in SHOWN and not f"{key}=".startswith(ASIDE):
                values[key] = _value(text.partition("=")[2])
    return values


def _value(text: str) -> bool | float | str:
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def write_hyperparameters(run: Run, given: Mapping[str, Any]) -> None:
    """For TensorBoard's HPARAMS page, where runs below one directory stand beside one another."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    writer = tf.summary.create_file_writer(str(run.tensorboard))
    with writer.as_default():
        api.hparams(hyperparameters(run, given), trial_id=str(run.directory))
    writer.close()


@contextlib.contextmanager
def tracked(run: Run, address: str | None, given: Mapping[str, Any]) -> Iterator[None]:
    """Sends the run to MLflow when the block ends, however it ends.

    A server that can't be reached costs a line, not the run.
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
            _send(run, address, given, status)
        except Exception as error:  # MLflow's own, requests' and SQLAlchemy's have no common class
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("MLflow at %s could not be written to: %s", address, reason)


def _send(run: Run, address: str, given: Mapping[str, Any], status: str) -> None:
    """One MLflow run a directory: what was sent before of the same is replaced."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=address)
    name = str(given["task"])
    experiment = client.get_experiment_by_name(name)
    identity = experiment.experiment_id if experiment else client.create_experiment(name)
    place = str(run.directory.resolve())
    for old in client.search_runs([identity], f"tags.directory = '{place}'"):
        client.delete_run(old.info.run_id)
    tags = {"directory": place, "mlflow.runName": "/".join(run.directory.parts[-2:])}
    started = client.create_run(identity, tags=tags).info
    params = hyperparameters(run, given)
    metrics = [
        Metric(_metric_name(key), float(value), started.start_time, int(row["step"]))
        for row in run.read_history()
        for key, value in row.items()
        if isinstance(value, int | float) and key not in ("step", "epoch")
    ]
    for key, value in numbers(run.load_metrics()):
        metrics.append(Metric(_metric_name(f"final.{key}"), value, started.start_time, 0))
    given_params = [Param(key, str(value)[:500]) for key, value in params.items()]
    for start in range(0, max(len(metrics), 1), 1000):  # as many as the interface takes at once
        part = metrics[start : start + 1000]
        client.log_batch(started.run_id, metrics=part, params=given_params if not start else [])
    if run.report.exists() and address.startswith("http"):  # else it would go to where we stand
        client.log_artifact(started.run_id, str(run.report))
    client.set_terminated(started.run_id, status)


def _metric_name(key: str) -> str:
    """MLflow takes letters, digits and some marks."""
    return re.sub(r"[^\w.\- /]", "_", key)
