"""A configuration as typed settings, checked whole before anything slow is imported.

Types, ranges and rules across settings are here and beside the code they configure; values are in
conf/. Nothing here imports TensorFlow: a mistake is answered in under a second.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from models.settings import ModelSettings, SearchSettings
from pipelines.cluster import check_ray, check_workers, is_other
from pipelines.comparison import check_against
from pipelines.contracts import Source, UserError
from pipelines.devices import check_device
from pipelines.errors import from_validation, suggest
from pipelines.serving.checks import check_serving
from pipelines.settings import (
    EvaluateSettings,
    ExportSettings,
    PrepareSettings,
    ServeSettings,
    SweepSettings,
    TrainSettings,
)
from pipelines.sweeping.naming import sweep_name
from pipelines.tasks import Task

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
    serve: ServeSettings
    sweep: SweepSettings


_NODES = {
    "model": ModelSettings,
    "prepare": PrepareSettings,
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "export": ExportSettings,
    "serve": ServeSettings,
    "sweep": SweepSettings,
}


def parse(plain: Mapping[str, Any]) -> Config:
    """Typed settings from plain values. Raises UserError for the first mistake."""
    names = [field.name for field in fields(Config)]
    for name in plain:
        if name not in names:
            raise UserError(f"{name}: there is no such setting; {suggest(str(name), names)}")
    for name in names:
        if name not in plain:
            raise UserError(f"{name}: a value is needed")
    built: dict[str, Any] = {key: _build(cls, plain[key], key) for key, cls in _NODES.items()}
    built["task"] = _build(
        _implementation("tasks", plain["task"], "task", "name", Task), plain["task"], "task"
    )
    built["decode"] = _build(_strategy(plain["decode"], built["task"]), plain["decode"], "decode")
    built["data"] = _build(
        _implementation("sources", plain["data"], "data", "format", Source), plain["data"], "data"
    )
    scalars = {key: plain[key] for key in ("mode", "run", "input", "output", "runs", "seed")}
    return _check_scalars(Config(**scalars, **built))


def sweep_settings(values: Any) -> SweepSettings:
    """Those of a sweep alone, where what it varies isn't chosen yet. Raises UserError."""
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
    lacking = [name for name in config.task.reads if name not in config.data.columns]
    if lacking:
        raise UserError(
            f"this task reads {', '.join(config.task.reads)}, but this data has "
            f"{', '.join(config.data.columns)}: choose another data= (no {', '.join(lacking)} here)"
        )
    _check_training(config)
    if config.mode in ("train", "export"):
        _check_export(config)
    if config.mode != "predict":
        config.data.check()
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
    if mode not in ("predict", "compare") and config.output is not None:
        raise UserError(f"output goes with mode=predict or compare; received mode={mode}")


def _check_training(config: Config) -> None:
    """Settings that would be passed over without a word, or fail after an epoch."""
    train = config.train
    if train.monitor is not None and train.monitor not in config.task.scores:
        hint = suggest(train.monitor, config.task.scores)
        raise UserError(f"train.monitor: there is no score {train.monitor!r}; {hint}")
    if train.weight_decay and train.optimizer != "adamw":
        raise UserError(f"train.weight_decay goes with adamw; received {train.optimizer}")
    if train.mlflow is not None and importlib.util.find_spec("mlflow") is None:
        raise UserError(
            "train.mlflow needs mlflow, which is not installed: pip install '.[mlflow]'"
        )
    if train.momentum and train.optimizer not in ("sgd", "rmsprop"):
        raise UserError(f"train.momentum goes with sgd or rmsprop; received {train.optimizer}")
    if config.model.activation != "tanh" and config.model.cell != "simple_rnn":
        raise UserError(f"model.activation goes with simple_rnn; {config.model.cell} has its gates")


NEEDED = {"litert": ("ai_edge_litert",), "onnx": ("tf2onnx", "onnxruntime")}
"""Modules that a format takes, beside Keras."""


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


def _strategy(values: Any, task: Task) -> type[SearchSettings]:
    """The settings of the strategy that is named, which must be one for the task."""
    kinds = {
        get_args(get_type_hints(cls)["strategy"])[0]: cls for cls in SearchSettings.__subclasses__()
    }
    name = values.get("strategy") if isinstance(values, dict) else values
    if name not in kinds:
        raise UserError(f"decode.strategy: no such strategy: {name!r}; {suggest(str(name), kinds)}")
    searches = name != "none"
    if searches != task.decodes:
        remedy = "use decode=none" if searches else "choose decode=greedy, beam or sample"
        raise UserError(f"decode: {name} does not go with task={task.name}: {remedy}")
    return kinds[name]


def _build(cls: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise UserError(f"{where}: an option or settings below it are needed; received {values!r}")
    nested = {
        name: _build(kind, values[name], f"{where}.{name}")
        for name, kind in get_type_hints(cls).items()
        if is_dataclass(kind) and isinstance(kind, type) and name in values
    }
    try:
        return cls(**{**values, **nested})
    except ValidationError as error:
        raise from_validation(error, where, cls) from None


def _implementation(package: str, values: Any, where: str, key: str, base: type) -> type:
    """The one subclass of `base` in the module that `values[key]` names: there is no registry."""
    folder = Path(__file__).parent / package
    choices = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    name = values.get(key) if isinstance(values, dict) else values
    if name not in choices:
        raise UserError(f"{where}.{key}: no such {where}: {name!r}; {suggest(str(name), choices)}")
    module = importlib.import_module(f"pipelines.{package}.{name}")
    for _, cls in inspect.getmembers(module, inspect.isclass):
        if issubclass(cls, base) and cls.__module__ == module.__name__:
            return cls
    raise UserError(f"{where}.{key}: pipelines/{package}/{name}.py defines no {base.__name__}")


def _check_scalars(config: Config) -> Config:
    modes = get_args(Mode)
    if config.mode not in modes:
        raise UserError(f"mode: no such mode: {config.mode!r}; {suggest(str(config.mode), modes)}")
    if isinstance(config.seed, bool) or not isinstance(config.seed, int) or config.seed < 0:
        raise UserError(f"seed: must be a whole number of at least 0; received {config.seed!r}")
    for name in ("run", "input", "output", "runs"):
        value = getattr(config, name)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{name}: must be text; received {value!r}")
    return config


def register_resolvers() -> None:
    """A run's directory is new for a new run, and the given one for `run=`, whose .hydra stays.

    A server writes nowhere, nor does a worker that isn't the chief; a comparison not into a run.
    """
    OmegaConf.register_new_resolver("run_directory", _run_directory, replace=True)
    OmegaConf.register_new_resolver("width_without_budget", _width_without_budget, replace=True)
    OmegaConf.register_new_resolver(
        "config_directory",
        lambda run, mode, workers: (
            ".hydra" if run is None and mode != "compare" and not is_other(workers) else None
        ),
        replace=True,
    )
    OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)


def _width_without_budget(parameters: object, width: int) -> int:
    """A default width; 0, to be chosen, where there is a budget."""
    return width if parameters is None else 0


def _run_directory(run: object, mode: str, workers: object, new: str) -> str:
    if mode in ("serve", "compare") or is_other(workers):
        return "."
    return new if run is None else str(run)


class CheckBeforeRun(Callback):
    """Checks everything before Hydra makes a directory, so that a mistake leaves nothing behind.

    Hydra turns a callback's exceptions into warnings, SystemExit excepted.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        from pipelines.run import restored

        HydraConfig.instance().set_config(config)  # the default directory's name needs it
        try:
            check(parse(restored(config, config.hydra.overrides.task)))
            if config.mode == "compare":
                return
            if any(text.startswith("sweep") for text in config.hydra.overrides.task):
                raise UserError("sweep goes with several runs: python main.py -m ...")
            if config.run is None and not is_other(config.train.workers):
                _check_new_directory(Path(config.hydra.run.dir))
        except UserError as error:
            raise SystemExit(f"error: {error}") from None
        except OSError as error:  # such as a name that is too long
            raise SystemExit(f"error: {error.filename}: {error.strerror}") from None
        except Exception:
            traceback.print_exc()
            raise SystemExit(1) from None


def _check_new_directory(directory: Path) -> None:
    if (directory / "config.yaml").exists():
        raise UserError(
            f"{directory} already holds a run: go on with it by mode=train run={directory}, "
            "or choose another hydra.run.dir"
        )
    # Alone, these two are of a run that ended before it began.
    begun = (".hydra", "run.log")
    if directory.is_dir() and any(path.name not in begun for path in directory.iterdir()):
        raise UserError(f"{directory} holds other things: choose another hydra.run.dir")
    existing = next(parent for parent in [directory, *directory.parents] if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"can't write into {existing}: choose another hydra.run.dir")
