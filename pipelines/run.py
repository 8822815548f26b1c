"""A run's directory: what lies where, and how it is written.

.hydra/ config.yaml   what was asked for
codec/                what was fitted on data
checkpoints/          last.npz (to resume), older ones last.1.npz ..., best.npz (to keep)
history.jsonl         a line an evaluation
model.keras saved_model/ exports/ metrics.json report.html plots/ tensorboard/
predictions.jsonl     for people; predictions.npz for a later run to be compared with
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import json
import os
import pkgutil
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf

from pipelines.cache import sync
from pipelines.contracts import UserError
from pipelines.schema import parse

if TYPE_CHECKING:
    import keras


SPLITS = ("train", "validation", "test")

ADDED_TO = ("seconds", "memory", "throughput")
"""What several stages measure a part of, each under names of its own."""

END = "...\n"
"""Of config.yaml, as YAML has it: what is missing in a whole file came later than the run."""

KINDS = ("name", "format", "strategy")
"""Settings that say which others there are beside them."""

ASIDE = ".old."
"""Before the name of a directory that another one is about to replace."""


class Run:
    """Paths below a run's directory; everything is written whole or not at all."""

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        self.config = self.directory / "config.yaml"
        self.codec = self.directory / "codec"
        self.last = self.directory / "checkpoints" / "last.npz"
        self.best = self.directory / "checkpoints" / "best.npz"
        self.history = self.directory / "history.jsonl"
        self.model = self.directory / "model.keras"
        self.saved_model = self.directory / "saved_model"
        self.card = self.saved_model / "assets.extra" / "MODEL_CARD.md"
        self.exports = self.directory / "exports"
        self.metrics = self.directory / "metrics.json"
        self.predictions = self.directory / "predictions.jsonl"
        self.kept_predictions = self.directory / "predictions.npz"
        self.report = self.directory / "report.html"
        self.tensorboard = self.directory / "tensorboard"

    def checkpoint(self, age: int) -> Path:
        """The last one that was saved (0), the one before it (1), ..."""
        return self.last.with_name(f"last.{age}.npz") if age else self.last

    def kept(self, step: int) -> Path:
        """The weights of an update that is among the best."""
        return self.directory / "checkpoints" / f"kept_{step}.npz"

    def read_metrics(self) -> dict[str, Any]:
        """What earlier stages measured; empty before the first."""
        if not self.metrics.exists():
            return {}
        metrics = _json(self.metrics, self.metrics.read_bytes())
        if not isinstance(metrics, dict):
            raise UserError(f"{self.metrics} is damaged: delete it and run again")
        return metrics

    def update_metrics(self, **measured: Any) -> dict[str, Any]:
        """Puts into metrics.json what a stage measured, in place of what it measured before.

        An evaluation gives the scores of all its splits at once, so those of other splits are of an
        earlier one, and go. Only what is ADDED_TO is merged.
        """
        metrics = self.read_metrics()
        if not measured.keys().isdisjoint(SPLITS):
            metrics = {key: value for key, value in metrics.items() if key not in SPLITS}
        for key, value in measured.items():
            metrics[key] = {**metrics.get(key, {}), **value} if key in ADDED_TO else value
        text = json.dumps(metrics, indent=2, ensure_ascii=False)
        with written_whole(self.metrics) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        return metrics

    def read_history(self) -> list[dict[str, Any]]:
        if not self.history.exists():
            return []
        lines = self.history.read_bytes().splitlines()
        return [_json(self.history, line) for line in lines]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Only one process at a time works in the directory; UserError if another does.

        What killed processes left half-written is removed, and what they set aside is put back.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "run.log").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is at work in {self.directory}") from None
            for left in [*self.directory.glob(".[0-9]*"), *self.last.parent.glob(".[0-9]*")]:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            for aside in self.directory.glob(f"{ASIDE}*"):
                place = aside.with_name(aside.name.removeprefix(ASIDE))
                shutil.rmtree(aside) if place.exists() else os.replace(aside, place)
            yield


def _json(path: Path, text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it and run again") from None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    It is on the disk by then, so that a power loss leaves the old file or the new one, not an empty
    one. What is there and isn't a file, such as a pipe, is given as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        yield path
        return
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def put_in_place(new: Path, place: Path) -> None:
    """Puts the directory `new` where an older one may be.

    The older one is set aside until then: whoever is killed in between leaves it to `Run.held`,
    which puts it back.
    """
    for path in (*new.rglob("*"), new):
        sync(path)
    aside = place.with_name(f"{ASIDE}{place.name}")
    if place.exists():
        os.replace(place, aside)
    os.replace(new, place)
    sync(place.parent)
    shutil.rmtree(aside, ignore_errors=True)


FREE = {
    "train": ("train", "evaluate", "export", "decode", "prepare.cache_dir", "data"),
    "evaluate": ("evaluate", "decode", "prepare.cache_dir", "data"),
    "export": ("export", "decode", "prepare.cache_dir", "data"),
    "predict": ("data",),
    "serve": ("serve",),
}
"""By mode, the settings that may differ from a run's own; that the data is still the same data is
checked by its content."""


NOT_OF_A_RUN = ("serve", "sweep", "runs")
"""Settings that its directory doesn't keep."""


def restored(composed: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """The settings: as composed or, with run=DIRECTORY, the run's own with the overrides on top.

    The run's config.yaml is the truth about the run; conf/ may have changed since. UserError for an
    override that would contradict what was trained.
    """
    values = resolved(composed)
    if values["run"] is None:
        return values
    if values["mode"] == "serve":
        return _served(values, overrides)
    run = Run(str(values["run"]))
    saved = settings_of_run(run, values)
    # The run's own choices of options were repeated to compose the rest; its values are saved.
    recorded = [text for text in recorded_overrides(run) if "." not in text.partition("=")[0]]
    given = overridden([text for text in overrides if text not in recorded])
    for key in [*given, "mode", "run", "input", "output"]:
        *parents, last = key.split(".")
        source, target = values, saved
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        if last not in source or target.get(last) == source[last]:
            continue
        free = (*FREE.get(values["mode"], ()), "mode", "run", "input", "output")
        if not _among(key, free):
            made = target.get(last)
            made = "another" if isinstance(made, dict) else repr(made)
            modes = [mode for mode, names in FREE.items() if _among(key, names)]
            remedy = f"it goes with mode={modes[-1]}" if modes else "start a new run"
            raise UserError(
                f"{key} can't be changed for {run.directory} with mode={values['mode']}: "
                f"it was made with {made}; {remedy}"
            )
        target[last] = source[last]
    return saved


def _among(key: str, names: Sequence[str]) -> bool:
    """Whether the key is one of them, or below one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _served(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A server looks at SavedModels only, of runs or of others: what else is set has no effect."""
    for key in overridden(overrides):
        if key not in ("mode", "run") and key.partition(".")[0] not in FREE["serve"]:
            raise UserError(f"{key} can't be set with mode=serve: what is served is a finished run")
    return values


def recorded_overrides(run: Run) -> list[str]:
    """What the command line of a new run said; nothing where that isn't known."""
    try:
        recorded = yaml.safe_load((run.directory / ".hydra" / "overrides.yaml").read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return []
    return [str(text) for text in recorded] if isinstance(recorded, list) else []


def resolved(composed: DictConfig) -> dict[str, Any]:
    """Plain values, without Hydra's own settings."""
    keys = [str(key) for key in composed if key not in ("hydra", "experiment")]
    values = OmegaConf.to_container(OmegaConf.masked_copy(composed, keys), resolve=True)
    return {str(key): value for key, value in cast(dict, values).items()}


def overridden(overrides: Sequence[str]) -> list[str]:
    """The keys that command-line overrides set: "train.epochs" of "+train.epochs=3"."""
    keys = [text.partition("=")[0].lstrip("+~").partition("@")[0] for text in overrides]
    return [key.replace("/", ".") for key in keys if not key.startswith("hydra")]


def save_config(run: Run, values: Mapping[str, Any]) -> None:
    """As of a new run: what a later mode asks for is asked anew."""
    kept = {**values, "mode": "train", "run": None, "input": None, "output": None}
    for name in NOT_OF_A_RUN:
        del kept[name]
    with written_whole(run.config) as temporary:
        text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True) + END
        temporary.write_text(text, encoding="utf-8")


def load_model(run: Run) -> keras.Model:
    """The run's model with its best weights. UserError if it isn't there or is damaged."""
    if not run.model.exists():
        raise UserError(
            f"{run.directory} holds no trained model (model.keras): go on with "
            f"mode=train run={run.directory}"
        )
    import keras

    import models

    for module in pkgutil.iter_modules(models.__path__):
        importlib.import_module(f"models.{module.name}")  # registers its layers

    try:
        return keras.models.load_model(run.model)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{run.model} is damaged ({str(error).splitlines()[0]}): go on with "
            f"mode=train run={run.directory}"
        ) from None


def _completed(saved: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """With settings that there weren't yet when the run was made, as they are by default."""
    if any(saved.get(key) != asked.get(key) for key in KINDS):
        return saved
    return {
        key: _completed(saved[key], value)
        if isinstance(value, dict) and isinstance(saved.get(key), dict)
        else saved.get(key, value)
        for key, value in asked.items()
    }


def settings_of_run(run: Run, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a run was made with; those that it doesn't keep are `asked`'s."""
    try:
        text = run.config.read_text(encoding="utf-8")
        saved = yaml.safe_load(text)
        if not isinstance(saved, dict) or not text.rstrip().endswith(END.rstrip()):
            raise UserError("it isn't whole")
        saved |= {name: asked[name] for name in NOT_OF_A_RUN}
        saved = _completed(saved, asked)
        parse(saved)
    except NotADirectoryError:
        raise UserError(f"run={run.directory} is not a run's directory: it is a file") from None
    except FileNotFoundError:
        exists = run.directory.exists()
        hint = "it holds no config.yaml" if exists else "there is no such directory"
        raise UserError(f"run={run.directory} is not a run's directory: {hint}") from None
    except (yaml.YAMLError, KeyError, UserError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{run.config} is damaged or of another version: {reason}") from None
    return saved
