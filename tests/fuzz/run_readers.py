"""Readers of what the program wrote: runs, prepared data and sweeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import yaml
from formats import BINARY, JSON, JSON_LINES, TEXT, YAML, ZIP
from hydra import compose, initialize_config_dir
from reader import Reader

from pipelines.compare.run_records import find_records
from pipelines.config.restore import END, load_run_config, to_plain_values
from pipelines.config.schema import parse
from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.core.saved_files import read_json_lines
from pipelines.data.arrow import ArrowFile
from pipelines.data.cache import read_meta, write_meta
from pipelines.evaluate.predictions import load_predictions
from pipelines.export.client import load
from pipelines.runs import checkpoint
from pipelines.runs.directory import Run, load_model
from pipelines.runs.metrics import numbers
from pipelines.runs.overrides import overridden_keys, recorded_overrides
from pipelines.sweep.objectives import resolve_objectives
from pipelines.sweep.overrides import create_lookup
from pipelines.sweep.space_parser import parse_space
from pipelines.sweep.study import Study
from pipelines.sweep.trials import StudyConfig
from pipelines.train.state import TrainingState


def current_values() -> dict[str, Any]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return to_plain_values(compose("config"))


# A run's directory

CONFIG = YAML._replace(write=lambda tree: yaml.safe_dump(tree) + END)


class _Slot:
    """A variable that only says what fits into it."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape

    def assign(self, value: np.ndarray) -> None:
        assert value.shape == self.shape


def of_run(run: Path, folder: Path) -> Iterator[Reader]:
    copy = Run(shutil.copytree(run, folder / "run"))
    current = current_values()
    with np.load(copy.last) as saved:
        groups: dict[str, list[_Slot]] = {}
        for name in saved.files:
            if name != "state":
                groups.setdefault(name.partition(":")[0], []).append(_Slot(saved[name].shape))

    def read_metrics() -> object:
        metrics = copy.load_metrics()
        return list(numbers(metrics)), metrics.to_json()

    def read_hydra() -> object:
        (record,), _ = find_records(str(copy.directory))
        return record.seed, record.problem, record.setting("model"), record.settings

    yield Reader(
        "config.yaml", copy.config, CONFIG, lambda: load_run_config(copy, current), cost=40
    )
    hydra = copy.directory / ".hydra"
    overrides = hydra / "overrides.yaml"
    yield Reader(
        "overrides.yaml", overrides, YAML, lambda: overridden_keys(recorded_overrides(copy))
    )
    yield Reader("hydra.yaml", hydra / "hydra.yaml", YAML, read_hydra, cost=40)
    yield Reader("metrics.json", copy.metrics, JSON, read_metrics)
    yield Reader("history.jsonl", copy.history, JSON_LINES, copy.read_history)
    yield Reader(
        "predictions.jsonl",
        copy.predictions,
        JSON_LINES,
        lambda: list(read_json_lines(copy.predictions, "measure again")),
    )
    yield Reader(
        "checkpoint",
        copy.last,
        ZIP,
        lambda: checkpoint.restore(copy.last, groups, TrainingState.from_checkpoint),
    )
    yield Reader(
        "predictions.npz",
        copy.prediction_arrays,
        ZIP,
        lambda: load_predictions(copy.prediction_arrays, "test"),
    )
    yield Reader("model.keras", copy.model, ZIP, lambda: load_model(copy), cost=100)
    imports = copy.saved_model / "assets.extra" / "imports.txt"
    imports.write_text("tensorflow_text\n")
    yield Reader(
        "imports.txt",
        imports,
        TEXT,
        lambda: load(str(copy.saved_model)),
        cost=400,
        told=(UserError, ValueError),
    )


# Prepared data


def of_caches(run: Path, folder: Path) -> Iterator[Reader]:
    cache = folder / "cache"
    cache.mkdir()
    table = pa.RecordBatch.from_pydict({"ids": pa.array([[1, 2], [3]] * 40), "label": [0, 1] * 40})
    with pa.ipc.new_file(cache / "train.arrow", table.schema) as file:
        file.write_batch(table)
    write_meta(cache, {"splits": {"all": 80}, "report": {"rows": 80}})

    def read_cache() -> object:
        meta = read_meta(cache)
        if meta is None:
            raise UserError("it is made again")
        return meta["splits"], meta["report"], ArrowFile(cache / "train.arrow").scalars("label")

    yield Reader("cache: meta.json", cache / "meta.json", JSON, read_cache)
    yield Reader("cache: arrow", cache / "train.arrow", BINARY, read_cache)


# Sweeps


def of_sweeps(run: Path, folder: Path) -> Iterator[Reader]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = parse(to_plain_values(compose("config", ["sweep=optuna", "sweep.trials=4"])))
    objectives = tuple(resolve_objectives(["quality"], config.task, None))
    study_config = StudyConfig("sentiment/study", folder / "study", objectives, config.sweep, 3)
    space = parse_space({"x": "int(interval(1, 99))", "y": "choice(a, b)"}, [], [])

    def open_study() -> Study:
        return Study(study_config, space, create_lookup({"x": 3, "y": "a"}, {}), seed=1)

    study = open_study()
    for value in (0.5, 0.75):
        trial = study.next_trial()
        assert trial is not None
        study.store.report(trial, [{"validation.accuracy": value}])
        study.store.complete(trial, [value], seconds=1.0)

    def read_study() -> object:
        again = open_study()
        return again.retry_failed(), again.store.finished_trials()

    journal = folder / "study" / "study.journal"
    yield Reader("study.journal", journal, JSON_LINES, read_study, cost=8)
    sweep = folder / "sweep"
    small = sweep / "0000"
    small.mkdir(parents=True)
    (small / "config.yaml").write_text("seed: 1\ntask: {name: sentiment}\n")
    summary = {
        "study": "s", "total": 3, "objectives": ["validation.accuracy"],
        "trials": [
            {"number": 0, "state": "COMPLETE", "values": [0.5], "overrides": ["model=gru"]},
            {"number": 1, "state": "PRUNED", "values": None, "overrides": [], "host": "a"},
            {"number": 2, "state": "FAIL", "reason": "of no luck", "seconds": 1.5},
        ],
    }  # fmt: skip
    (sweep / "sweep.json").write_text(json.dumps(summary))

    def read_summary() -> object:
        records, _ = find_records(str(sweep))
        return [(record.seed, record.reason, record.setting("model")) for record in records]

    yield Reader("sweep.json", sweep / "sweep.json", JSON, read_summary)
