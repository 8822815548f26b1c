"""Files that come with data or a model are no code, whatever their names and what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import ROOT, Command, FinishedRun
from serving_process import serving, write_arithmetic
from sweep_process import count_states, start_sweep

from pipelines.core.paths import python_path
from pipelines.distributed.cluster import Cluster, find_free_ports, spawn_workers
from pipelines.export.client import OPERATORS
from pipelines.export.saved_model import write_imports

MODULES = ("gzip", "zlib_ng", "socket", "pickle", "queue", "numpy", "tensorflow", "pipelines")
"""Names that processes import, of the standard library, of packages and of this project."""


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """A working directory with files that leave a mark when they are imported."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(mark(folder))!r}, 'a').write('{name} ')\n")
    return folder


def mark(downloads: Path) -> Path:
    return downloads.parent / "mark"


def test_a_served_model_runs_nothing_of_the_working_directory(downloads: Path) -> None:
    model = write_arithmetic(downloads / "model")
    with serving(downloads / "log", f"run={model}", "serve.name=arithmetic") as server:
        assert server.predict("arithmetic", instances=[[1.0, 2.0]])
    assert not mark(downloads).exists(), mark(downloads).read_text()


def test_the_processes_of_a_sweep_run_nothing_of_the_working_directory(downloads: Path) -> None:
    script, found = downloads.parent / "script.py", downloads.parent / "found"
    script.write_text(f"import gzip, queue; open({str(found)!r}, 'w').write(gzip.__file__)\n")
    starter = downloads.parent / "starter.py"
    starter.write_text(
        textwrap.dedent(
            f"""
            import time
            from pathlib import Path
            from pipelines.sweep.trial_process import RunProcess, RunScript

            if __name__ == "__main__":
                script, folder = RunScript(Path({str(script)!r}), ()), Path({str(script.parent)!r})
                run = RunProcess([], folder / "run", folder / "log", threads=None, script=script)
                while not run.has_ended():
                    time.sleep(0.1)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(starter)]
    subprocess.run(command, check=True, env=environment, cwd=downloads, timeout=120)
    assert str(downloads) not in found.read_text()
    assert not mark(downloads).exists(), mark(downloads).read_text()


def test_further_workers_run_nothing_of_the_working_directory(
    downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a module would be imported at once, long before the worker asks for the chief."""
    monkeypatch.chdir(downloads)
    addresses = tuple(f"127.0.0.1:{port}" for port in find_free_ports(2))
    with spawn_workers(Cluster(addresses, 0, spawns_others=True), "cpu") as (worker,):
        assert "-P" in psutil.Process(worker.pid).cmdline()
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(2)
        worker.kill()
    assert not mark(downloads).exists(), mark(downloads).read_text()


def test_the_path_for_processes_has_no_entry_that_depends_on_the_working_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "relative", "/absolute", ".", ""]))
    assert python_path().split(os.pathsep) == [str(ROOT), "/absolute"]
    monkeypatch.delenv("PYTHONPATH")
    assert python_path() == str(ROOT)


@pytest.mark.parametrize("module", ["evil", "outputs.evil", "os", "antigravity"])
def test_a_saved_model_chooses_no_module(
    module: str, finished_run: FinishedRun, command_here: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run.directory, run)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    (run / "saved_model" / "assets.extra" / "imports.txt").write_text(f"{module}\n")
    result = command_here("mode=predict", f"run={run}", "input=a superb film")
    assert result.returncode == 1
    assert "imports.txt must name none but tensorflow_text" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("group", ["model", "experiment", "hydra"])
def test_a_run_chooses_no_settings_but_those_of_this_project(
    group: str, finished_run: FinishedRun, command_here: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run.directory, run)
    (run / "evil.yaml").write_text(f"# @package _global_\noutput: {tmp_path}/mark\n")
    recorded = run / ".hydra" / "overrides.yaml"
    option = os.path.relpath(run / "evil", ROOT / "conf" / group)
    recorded.write_text(f"{recorded.read_text()}- {group}={option}\n- experiment=[{option}]\n")
    result = command_here("mode=predict", f"run={run}", "input=a superb film")
    assert result.returncode == 0, result.stderr
    assert '"label"' in result.stdout
    assert not (tmp_path / "mark").exists()


def test_an_export_that_needs_another_module_is_a_defect(tmp_path: Path) -> None:
    codec = SimpleNamespace(fields={"text": SimpleNamespace(operators=("other", *OPERATORS))})
    with pytest.raises(ValueError, match=r"lacks \{'other'\}"):
        write_imports(tmp_path, codec)


@pytest.mark.parametrize(
    ("launcher", "settings"),
    [
        ("submitit_local", ["hydra.launcher.timeout_min=5"]),
        ("ray", []),
    ],
    ids=["submitit", "ray"],
)
def test_the_jobs_of_launchers_run_nothing_of_the_working_directory(
    launcher: str, settings: list[str], downloads: Path
) -> None:
    name = launcher.removesuffix("_local")
    if find_spec(name) is None:
        pytest.skip(f"{name.capitalize()} is not installed: pip install '.[{name}]'")
    process = start_sweep(f"hydra/launcher={launcher}", "seed=1", *settings, folder=downloads)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert count_states(downloads) == {"COMPLETE": 1}
    assert not mark(downloads).exists(), mark(downloads).read_text()
