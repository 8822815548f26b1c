"""What a run has recorded of its command line is no more than names of options."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from synthetic_runs import write_run

from pipelines.compare.run_records import find_records
from pipelines.runs.directory import Run
from pipelines.runs.overrides import is_option, recorded_options

PATHS = ["../evil", "/evil", "a/b", "..", "[a,../b]", "{a: b}", "a b", "${oc.env:HOME}", "a\n", ""]


@pytest.mark.parametrize("option", PATHS)
def test_a_path_is_no_option(option: str, tmp_path: Path) -> None:
    assert not is_option("model", option)
    run = write_run(tmp_path / "runs" / "a", [])
    given = [f"model={option}", "data=imdb", "seed=2", "hydra=gru"]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(given))
    choices = {"model": option, "data": "imdb", "hydra/launcher": "local"}
    hydra = {"hydra": {"runtime": {"choices": choices}}}
    (run / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(hydra))
    assert recorded_options(Run(run), ["model", "data", "hydra"]) == ["data=imdb"]
    (record,) = find_records(str(run))[0]
    assert record.choices == {"data": "imdb"}


def test_the_options_of_conf_are_names() -> None:
    assert is_option("model", "bi_gru")
    assert is_option("experiment", "my-experiment_2")
