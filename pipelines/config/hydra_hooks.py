"""Hydra's hooks: resolvers, and the check before a run's directory is made."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pipelines.config.restore import resolve_config
from pipelines.config.schema import check, parse
from pipelines.config.sweep_name import sweep_name
from pipelines.core.errors import UserError
from pipelines.core.plain_text import error_line
from pipelines.distributed.cluster import is_non_chief


def register_resolvers() -> None:
    """A run's directory is new for a new run, and the given one for `run=`, whose .hydra stays.

    A server writes nowhere, nor does a worker that isn't the chief; a comparison not into a run.
    """
    OmegaConf.register_new_resolver("run_directory", _run_directory, replace=True)
    OmegaConf.register_new_resolver("width_without_budget", _width_without_budget, replace=True)
    OmegaConf.register_new_resolver(
        "config_directory",
        lambda run, mode, workers: (
            ".hydra" if run is None and mode != "compare" and not is_non_chief(workers) else None
        ),
        replace=True,
    )
    OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)


def _width_without_budget(parameters: object, width: int) -> int:
    """A default width; 0, to be chosen, where there is a budget."""
    return width if parameters is None else 0


def _run_directory(run: object, mode: str, workers: object, new: str) -> str:
    if mode in ("serve", "compare") or is_non_chief(workers):
        return "."
    return new if run is None else str(run)


class CheckBeforeRun(Callback):
    """Checks everything before Hydra makes a directory, so that a mistake leaves nothing behind.

    Hydra turns a callback's exceptions into warnings, SystemExit excepted.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:

        HydraConfig.instance().set_config(config)  # the default directory's name needs it
        try:
            check(parse(resolve_config(config, config.hydra.overrides.task)))
            if config.mode == "compare":
                return
            if any(text.startswith("sweep") for text in config.hydra.overrides.task):
                raise UserError("sweep goes with several runs: python main.py -m ...")
            if config.run is None and not is_non_chief(config.train.workers):
                _check_new_directory(Path(config.hydra.run.dir))
        except UserError as error:
            raise SystemExit(error_line(error)) from None
        except OSError as error:  # such as a name that is too long
            raise SystemExit(error_line(f"{error.filename}: {error.strerror}")) from None
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
    leftovers = (".hydra", "run.log")
    if directory.is_dir() and any(path.name not in leftovers for path in directory.iterdir()):
        raise UserError(f"{directory} holds other things: choose another hydra.run.dir")
    existing = next(parent for parent in [directory, *directory.parents] if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"can't write into {existing}: choose another hydra.run.dir")
