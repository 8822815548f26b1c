"""A configuration as typed settings, checked whole before anything slow is imported.

Types, ranges and rules across settings are here and next to the code they configure; values are in
conf/. Nothing here imports TensorFlow: a mistake is answered in under a second.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_type_hints

from pydantic import ValidationError

from models.settings import ModelSettings, SearchSettings
from pipelines.config.messages import from_validation
from pipelines.core.contracts import Source
from pipelines.core.errors import UserError, shown, suggest
from pipelines.core.secrets import check_no_password
from pipelines.core.settings import (
    EvaluateSettings,
    ExportSettings,
    PredictSettings,
    PrepareSettings,
    ServeSettings,
    SweepSettings,
    TrainSettings,
)
from pipelines.core.task import Decodes, Task
from pipelines.core.types import Config as Values
from pipelines.data.checks import check_division
from pipelines.distributed.cluster import check_ray, check_workers
from pipelines.distributed.devices import check_device
from pipelines.evaluate.against import check_against
from pipelines.serve.checks import check_serving

MOST_SEED = 2**63 - 1

Mode = Literal["train", "evaluate", "export", "predict", "serve", "compare"]


@dataclass(frozen=True)
class Config:
    """The whole configuration. Stages receive their own part, never this."""

    mode: Mode
    run: str | None
    input: str | None
    output: str | None
    runs: str | None
    seed: int
    task: Task
    model: ModelSettings
    data: Source
    decode: SearchSettings
    prepare: PrepareSettings
    train: TrainSettings
    evaluate: EvaluateSettings
    export: ExportSettings
    predict: PredictSettings
    serve: ServeSettings
    sweep: SweepSettings


_NODES = {
    "model": ModelSettings,
    "prepare": PrepareSettings,
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "export": ExportSettings,
    "predict": PredictSettings,
    "serve": ServeSettings,
    "sweep": SweepSettings,
}


def parse(plain: Values) -> Config:
    """Typed settings from plain values. Raises UserError for the first mistake."""
    names = [field.name for field in fields(Config)]
    for name in plain:
        if name not in names:
            raise UserError(f"{name}: there is no such setting; {suggest(str(name), names)}")
    for name in names:
        if name not in plain:
            raise UserError(f"{name}: a value is needed")
    built: Values = {key: _build(cls, plain[key], key) for key, cls in _NODES.items()}
    built["task"] = _build(
        _implementation("tasks", plain["task"], "task", "name", Task), plain["task"], "task"
    )
    built["decode"] = _build(_strategy(plain["decode"], built["task"]), plain["decode"], "decode")
    built["data"] = _build(
        _implementation("data.sources", plain["data"], "data", "format", Source),
        plain["data"],
        "data",
    )
    scalars = {key: plain[key] for key in ("mode", "run", "input", "output", "runs", "seed")}
    return _check_scalars(Config(**scalars, **built))


def sweep_settings(values: object) -> SweepSettings:
    """The settings of a sweep, before those that it varies are chosen. Raises UserError."""
    settings: SweepSettings = _build(SweepSettings, values, "sweep")
    return settings


def check(config: Config) -> None:
    """Rules across settings, and what can be seen of files. Raises UserError."""
    _check_mode(config)
    if config.mode == "compare":
        return  # the settings of the runs are their own
    if config.mode == "serve":
        check_serving(str(config.run), config.serve)
        return  # the rest is of the run, and the server looks at its SavedModel only
    lacking = [name for name in config.task.columns if name not in config.data.columns]
    if lacking:
        raise UserError(
            f"this task reads {', '.join(config.task.columns)}, but this data has "
            f"{', '.join(config.data.columns)}: choose another data= (no {', '.join(lacking)} here)"
        )
    _check_training(config)
    if config.mode in ("train", "export"):
        _check_export(config)
    if config.mode != "predict":
        config.data.check()
        check_division(config.data, config.prepare)
    if config.mode in ("train", "evaluate"):
        check_against(config.evaluate.against, task=config.task.name, run=config.run)
    if config.mode == "train":
        config.task.check(config.decode)
        check_workers(config.train.workers)
        check_ray(config.train.ray)
        if not config.train.ray:
            check_device(config.train.device)  # else Ray's workers see for themselves


def _check_mode(config: Config) -> None:
    mode = config.mode
    if mode not in ("train", "compare") and config.run is None:
        raise UserError(f"mode={mode} needs run=DIRECTORY, the directory of a trained run")
    if mode == "compare" and (config.runs is None or config.run is not None):
        raise UserError("mode=compare needs runs=DIRECTORIES, such as runs='outputs/sentiment/*/*'")
    if mode != "compare" and config.runs is not None:
        raise UserError(f"runs goes with mode=compare; received mode={mode}")
    if mode != "predict" and config.input is not None:
        raise UserError(f"input and output go with mode=predict; received mode={mode}")
    if config.input == "":
        raise UserError(
            "input must be a text, a file or a folder, or null for standard input; received nothing"
        )
    if mode not in ("predict", "compare") and config.output is not None:
        raise UserError(f"output goes with mode=predict or compare; received mode={mode}")


def _check_training(config: Config) -> None:
    """Settings that would be passed over without a word, or fail after an epoch."""
    train = config.train
    names = [metric.name for metric in config.task.metrics]
    if train.monitor is not None and train.monitor not in names:
        hint = suggest(train.monitor, names)
        raise UserError(f"train.monitor: there is no score {shown(train.monitor)}; {hint}")
    if train.weight_decay and train.optimizer != "adamw":
        raise UserError(f"train.weight_decay goes with adamw; received {train.optimizer}")
    if train.mlflow is not None and config.run is None:  # what is saved can't be taken back
        check_no_password(
            "train.mlflow",
            train.mlflow,
            "give it in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        )
    if train.mlflow is not None and importlib.util.find_spec("mlflow") is None:
        raise UserError(
            "train.mlflow needs mlflow, which is not installed: pip install '.[mlflow]'"
        )
    if train.momentum and train.optimizer not in ("sgd", "rmsprop"):
        raise UserError(f"train.momentum goes with sgd or rmsprop; received {train.optimizer}")
    if config.model.activation != "tanh" and config.model.cell != "simple_rnn":
        raise UserError(f"model.activation goes with simple_rnn; {config.model.cell} has its gates")


NEEDED = {"litert": ("ai_edge_litert",), "onnx": ("tf2onnx", "onnxruntime")}
"""Modules that a format needs besides Keras."""


def _check_export(config: Config) -> None:
    for name in config.export.formats:
        if any(importlib.util.find_spec(module) is None for module in NEEDED[name]):
            raise UserError(
                f"export.formats={name} needs {' and '.join(NEEDED[name])}, which is not "
                f"installed: pip install '.[{name}]'"
            )
    if config.export.formats and config.train.precision != "float32":
        raise UserError(
            "export.formats needs train.precision=float32, since neither LiteRT nor ONNX take "
            f"what {config.train.precision} computes; leave it out"
        )


def _strategy(values: object, task: Task) -> type[SearchSettings]:
    """The settings of the strategy that is named, which must be one for the task."""
    kinds = {
        get_args(get_type_hints(cls)["strategy"])[0]: cls for cls in SearchSettings.__subclasses__()
    }
    name = values.get("strategy") if isinstance(values, dict) else values
    if not isinstance(name, str) or name not in kinds:
        raise UserError(
            f"decode.strategy: no such strategy: {shown(name)}; {suggest(str(name), kinds)}"
        )
    searches = name != "none"
    if searches != isinstance(task, Decodes):
        remedy = "use decode=none" if searches else "choose decode=greedy, beam or sample"
        raise UserError(f"decode: {name} does not go with task={task.name}: {remedy}")
    return kinds[name]


def _build(cls: type, values: object, where: str) -> Any:
    if not isinstance(values, dict):
        raise UserError(
            f"{where}: an option or settings below it are needed; received {shown(values)}"
        )
    nested = {
        name: _build(kind, values[name], f"{where}.{name}")
        for name, kind in get_type_hints(cls).items()
        if is_dataclass(kind) and isinstance(kind, type) and name in values
    }
    try:
        return cls(**{**values, **nested})
    except ValidationError as error:
        raise from_validation(error, where, cls) from None


def _implementation(package: str, values: object, where: str, key: str, base: type) -> type:
    """The one subclass of `base` in the module that `values[key]` names: there is no registry."""
    folders = importlib.import_module(f"pipelines.{package}").__path__
    modules = [module.name for module in pkgutil.iter_modules(folders) if not module.ispkg]
    choices = {name for name in modules if not name.startswith("_")}
    name = values.get(key) if isinstance(values, dict) else values
    if not isinstance(name, str) or name not in choices:
        raise UserError(
            f"{where}.{key}: no such {where}: {shown(name)}; {suggest(str(name), choices)}"
        )
    module = importlib.import_module(f"pipelines.{package}.{name}")
    classes = [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, base) and cls.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise TypeError(f"{module.__file__} must define one {base.__name__}; it has {len(classes)}")
    return classes[0]


def _check_scalars(config: Config) -> Config:
    modes = get_args(Mode)
    if config.mode not in modes:
        raise UserError(
            f"mode: no such mode: {shown(config.mode)}; {suggest(str(config.mode), modes)}"
        )
    is_number = isinstance(config.seed, int) and not isinstance(config.seed, bool)
    if not is_number or not 0 <= config.seed <= MOST_SEED:
        raise UserError(
            f"seed: must be a whole number from 0 to {MOST_SEED}; received {shown(config.seed)}"
        )
    for name in ("run", "input", "output", "runs"):
        value = getattr(config, name)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{name}: must be text; received {shown(value)}")
    return config
