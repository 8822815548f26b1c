"""Ray's workers train like one process, and resume when one of them dies.

Ray is an extra: tests that need it are skipped where it isn't installed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import Command, assert_refused
from two_workers import MANY_EPOCHS, NO_DROPOUT, assert_close, has_evaluated, tf_config
from whole_runs import FEW_STAGES, read_history, read_metrics, start_main

INSTALLED = importlib.util.find_spec("ray") is not None

needs_ray = pytest.mark.skipif(not INSTALLED, reason="Ray is not installed: pip install '.[ray]'")

WITH_RAY = ["train.ray=true", "train.workers=2", "train.device=cpu"]


@pytest.mark.skipif(INSTALLED, reason="Ray is installed")
def test_without_ray_a_line_says_what_to_install(command_here: Command, tmp_path: Path) -> None:
    result = command_here(*WITH_RAY)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line == "error: train.ray needs Ray, which is not installed: pip install '.[ray]'"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        (WITH_RAY, {"TF_CONFIG": tf_config(0, "a:1", "b:1")}, "TF_CONFIG or Slurm say who trains"),
        (["train.ray_failures=-2"], {}, "train.ray_failures: must be greater than or equal to -1"),
    ],
)
def test_an_impossible_setup_is_one_line_before_anything_is_written(
    settings: list[str],
    environment: dict,
    message: str,
    command_here: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "ray" or find(name))
    assert_refused(command_here(*settings, **environment), message, tmp_path)


def test_the_driver_of_ray_workers_needs_no_gpu(
    command_here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine that starts them needs none."""
    overrides = ["train.ray=true", "train.device=gpu", "data.path=/nowhere", "data=text_files"]
    monkeypatch.setattr("pipelines.config.schema.check_ray", lambda ray: None)
    monkeypatch.setattr("pipelines.config.schema.check_device", lambda device: pytest.fail(device))
    assert "/nowhere" in command_here(*overrides).stderr


@needs_ray
def test_an_unreachable_ray_cluster_is_one_line(
    quick_overrides: list[str], command: Command, tmp_path: Path
) -> None:
    result = command(*quick_overrides, *WITH_RAY, RAY_ADDRESS="127.0.0.1:9")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: no Ray cluster lets us in at RAY_ADDRESS=127.0.0.1:9")


@needs_ray
@pytest.mark.slow
class TestRay:
    @pytest.fixture(autouse=True)
    def alone(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Without another Ray cluster of this machine."""
        monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def test_two_ray_workers_have_the_losses_of_one_process(
        self, quick_overrides: list[str], tmp_path: Path
    ) -> None:
        overrides = [
            *quick_overrides,
            *NO_DROPOUT,
            *FEW_STAGES,
            "task.dropout=0",
            "train.batch_examples=7",
        ]
        for name, more in (("one", ["train.workers=1"]), ("ray", WITH_RAY)):
            log = tmp_path / f"{name}.log"
            process = start_main(*overrides, *more, f"hydra.run.dir={tmp_path / name}", log=log)
            assert process.wait(timeout=600) == 0, log.read_text()
        assert_close(tmp_path / "one", tmp_path / "ray")
        assert read_metrics(tmp_path / "ray")["training"]["workers"] == 2
        assert not (tmp_path / "ray" / ".ray").exists()

    def test_ray_restarts_a_killed_worker_and_the_run_resumes(
        self, quick_overrides: list[str], tmp_path: Path
    ) -> None:
        directory, log = tmp_path / "run", tmp_path / "log"
        overrides = [*quick_overrides, *MANY_EPOCHS, *FEW_STAGES, *WITH_RAY]
        process = start_main(*overrides, f"hydra.run.dir={directory}", log=log)
        until(has_evaluated(directory), process)
        ray_workers(process)[-1].kill()
        assert process.wait(timeout=600) == 0, log.read_text()
        assert "Going on" in (directory / "run.log").read_text()
        steps = [row["step"] for row in read_history(directory)]
        assert len(steps) == 40
        assert steps == sorted(set(steps))

    def test_a_user_error_is_one_line_and_leaves_nothing(
        self, quick_overrides: list[str], tmp_path: Path
    ) -> None:
        """Only the chief reads the data and sees the error; it is not retried."""
        directory, log, data = tmp_path / "run", tmp_path / "log", tmp_path / "bad.csv"
        data.write_text("text,label\n" + "good,1\n,0\n" * 50)
        overrides = [*quick_overrides, *WITH_RAY, f"data.path={data}", f"hydra.run.dir={directory}"]
        process = start_main(*overrides, log=log)
        assert process.wait(timeout=600) == 1, log.read_text()
        assert log.read_text().splitlines()[-1].startswith("error: ")
        assert "Traceback" not in log.read_text()
        assert not directory.exists()


def until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Ray's processes are slow on a busy machine, so this waits for longer than elsewhere."""
    started_at = time.monotonic()
    while not condition():
        assert process.poll() is None, "it ended before it could be disturbed"
        assert time.monotonic() - started_at < 600
        time.sleep(0.1)


def ray_workers(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Workers of the Ray cluster that this process has started."""
    family = psutil.Process(driver.pid).children(recursive=True)
    return [one for one in family if "RayTrainWorker" in " ".join(one.cmdline())]
