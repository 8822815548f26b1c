"""Commands and experiments that reproduce the best run."""

from __future__ import annotations

from pathlib import Path

import yaml
from conftest import Command, FinishedRun
from synthetic_runs import write_run

from pipelines.compare.best_run import changed_values, read_experiment, reproduce_command
from pipelines.compare.run_records import find_records


def test_the_reproduce_command_has_the_overrides_as_typed(tmp_path: Path) -> None:
    write_run(tmp_path / "r" / "a", [])
    given = ["+task.extra=1", "~train.z", "model=gru", "export.saved_model=false"]
    (tmp_path / "r/a/.hydra/overrides.yaml").write_text(yaml.safe_dump(given))
    (record,) = find_records(str(tmp_path / "r"))[0]
    assert reproduce_command(record) == "python main.py +task.extra=1 '~train.z' model=gru"


def test_the_winners_experiment_composes_to_its_configuration(
    finished_run: FinishedRun, command_here: Command, tmp_path: Path
) -> None:
    result = command_here(
        "mode=compare", f"runs={finished_run.directory}", f"output={tmp_path}/out"
    )
    assert result.returncode == 0, result.stderr
    assert "Leaderboard: " in result.stderr
    assert not (tmp_path / "run.log").exists()
    composed = command_here("--config-dir", f"{tmp_path}/out", "experiment=winner", "--cfg", "job")
    assert composed.returncode == 0, composed.stderr
    values, saved = (
        yaml.safe_load(composed.stdout),
        yaml.safe_load((finished_run.directory / "config.yaml").read_text()),
    )
    for part in ("task", "model", "train", "data", "decode"):
        assert values[part] == saved[part]
    record = find_records(str(finished_run.directory))[0][0]
    found, choices = read_experiment(record)
    assert choices["data"] == "text_files"
    assert found["model"] == {"width": 6}


def test_changed_values_keep_their_nesting() -> None:
    known = {"a": 1, "b": {"c": 2, "d": [1]}}
    assert changed_values({"a": 1, "b": {"c": 3, "d": [1]}}, known) == {"b": {"c": 3}}
    assert changed_values(known, known) == {}
    assert changed_values({"e": {"f": 1}}, known) == {"e": {"f": 1}}
