"""Several workers train like one process, and a lost worker is always reported.

Workers are processes; the tests start few and small ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from conftest import ROOT, Command, assert_refused
from tiny_captioning import QUICK as CAPTIONING
from tiny_captioning import emoji
from tiny_translation import QUICK as TRANSLATION
from two_workers import MANY_EPOCHS, NO_DROPOUT, assert_close, has_evaluated, tf_config
from whole_runs import (
    FEW_STAGES,
    find_half_written,
    have_same_weights,
    read_history,
    read_metrics,
    start_main,
    wait_for,
)

from pipelines.distributed.cluster import (
    WORKER_LOST_EXIT_CODE,
    Cluster,
    find_free_ports,
    rank_from_environment,
    resolve_cluster,
)
from pipelines.distributed.workers import Workers


def test_the_chief_has_index_0_and_each_worker_knows_those_on_its_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = {"worker": ["b:1", "b:2"], "chief": ["a:1"]}
    text = json.dumps({"cluster": jobs, "task": {"type": "worker", "index": 1}})
    monkeypatch.setenv("TF_CONFIG", text)
    cluster = resolve_cluster(None)
    assert cluster == Cluster(("a:1", "b:1", "b:2"), 2)
    assert cluster.local_indices == [1, 2]
    assert not cluster.is_chief
    assert resolve_cluster(1) is None, "train.workers=1 ignores the environment"


@pytest.mark.parametrize(
    ("nodes", "tasks", "expected"),
    [
        ("n[2,10]", "2(x2)", ["n2", "n2", "n10", "n10"]),
        ("gpu07,cpu[1-2]", "1,2,1", ["gpu07", "cpu1", "cpu1", "cpu2"]),
    ],
)
def test_slurm_tasks_are_workers_in_rank_order(
    monkeypatch: pytest.MonkeyPatch, nodes: str, tasks: str, expected: list[str]
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in {
        "PROCID": "3", "STEP_NUM_TASKS": "4", "STEP_NODELIST": nodes,
        "STEP_TASKS_PER_NODE": tasks, "JOB_ID": "123",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", value)
    cluster = resolve_cluster(None)
    assert cluster is not None
    assert cluster.index == 3
    assert [address.partition(":")[0] for address in cluster.addresses] == expected
    assert len(set(cluster.addresses)) == 4


def test_slurm_tasks_resolve_their_cluster_without_tensorflow_messages() -> None:
    tasks = {
        "PROCID": "1", "STEP_NUM_TASKS": "2", "STEP_NODELIST": "n[1-2]",
        "STEP_TASKS_PER_NODE": "1(x2)", "JOB_ID": "123",
    }  # fmt: skip
    without = {"TF_CONFIG", "TF_CPP_MIN_LOG_LEVEL"}
    given = {name: value for name, value in os.environ.items() if name not in without}
    code = (
        "from pipelines.distributed.cluster import resolve_cluster\n"
        "print(resolve_cluster(None).index)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**given, **{f"SLURM_{name}": value for name, value in tasks.items()}},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.stdout, result.stderr) == ("1\n", "")


def test_a_slurm_batch_script_is_no_worker() -> None:
    assert rank_from_environment({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None
    assert rank_from_environment({"TF_CONFIG": tf_config(0, "a:1")}) is None
    assert rank_from_environment({"TF_CONFIG": "{}"}) is None


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        (["train.device=gpu"], {"CUDA_VISIBLE_DEVICES": "-1"}, "hides all GPUs"),
        (["train.device=gpus"], {}, "did you mean 'gpu'?"),
        (["train.workers=0"], {}, "train.workers: must be greater than or equal to 1"),
        (["train.workers=3"], {"TF_CONFIG": tf_config(0, "a:1", "b:1")}, "TF_CONFIG has 2 workers"),
        ([], {"TF_CONFIG": "worker"}, "TF_CONFIG must be"),
        ([], {"TF_CONFIG": tf_config(2, "a:1", "b:1")}, "TF_CONFIG must be"),
        ([], {"TF_CONFIG": tf_config(0, "a:1", "b:1", job="ps")}, "TF_CONFIG may have jobs"),
    ],
)
def test_an_impossible_setup_is_one_line_before_anything_is_written(
    settings: list[str], environment: dict, message: str, command_here: Command, tmp_path: Path
) -> None:
    assert_refused(command_here(*settings, **environment), message, tmp_path)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error(command_here: Command) -> None:
    result = command_here("train.device=gpu")
    assert result.returncode == 1
    assert "there is none here: use train.device=cpu" in result.stderr


def worker(index: int, count: int) -> Workers:
    """A worker without a cluster: enough to shard batches."""
    workers = Workers()
    workers.index, workers.count = index, count
    return workers


@pytest.mark.parametrize(("rows", "count"), [(7, 2), (6, 3), (1, 2), (2, 5)])
def test_each_row_of_a_batch_counts_on_exactly_one_worker(rows: int, count: int) -> None:
    columns = {"x": np.arange(rows), "y": np.arange(rows * 2).reshape(rows, 2)}
    counted: list[int] = []
    for index in range(count):
        shard, counts = worker(index, count).shard(columns)
        assert len(shard["x"]) >= 1, "not every layer accepts no rows"
        np.testing.assert_array_equal(shard["y"][:, 0], shard["x"] * 2)
        counted += shard["x"].tolist() if counts else []
    assert sorted(counted) == list(range(rows))


def train_with_one_and_two(
    command: Command, command_here: Command, tmp_path: Path, overrides: list[str]
) -> None:
    """Trains with one worker and with two, and compares losses and scores."""
    for name, workers, run_main in (("one", 1, command_here), ("two", 2, command)):
        run = [f"train.workers={workers}", f"hydra.run.dir={tmp_path}/{name}", *FEW_STAGES]
        result = run_main(*overrides, *NO_DROPOUT, *run)
        assert result.returncode == 0, result.stderr
    assert_close(tmp_path / "one", tmp_path / "two")
    assert read_metrics(tmp_path / "two")["training"]["workers"] == 2
    assert read_metrics(tmp_path / "two")["training"]["device"] in ("CPU", "GPU")


def test_two_workers_have_the_losses_of_one(
    quick_overrides: list[str], command: Command, command_here: Command, tmp_path: Path
) -> None:
    """Batches of 7 and, at the end, of 1, so that one worker has nothing to do."""
    uneven = ["train.batch_examples=7", "train.bucket_by_length=false", "task.dropout=0"]
    train_with_one_and_two(
        command, command_here, tmp_path, [*quick_overrides, *uneven, "model.layers=2"]
    )
    best = [np.load(tmp_path / run / "checkpoints/best.npz") for run in ("one", "two")]
    for name in best[0].files:
        if name != "state":
            np.testing.assert_allclose(best[0][name], best[1][name], atol=1e-4)
    assert not find_half_written(tmp_path / "two")
    assert "training: workers" in (tmp_path / "two" / "report.html").read_text()


@pytest.mark.slow
def test_two_workers_translate_as_one_does(
    pairs: list[str],
    command: Command,
    command_here: Command,
    tmp_path: Path,
) -> None:
    overrides = [*TRANSLATION, *pairs, "task.decoder.dropout=0", "train.accumulation_steps=2"]
    train_with_one_and_two(command, command_here, tmp_path, overrides)


@pytest.mark.slow
@emoji
def test_two_workers_caption_as_one_does(
    command: Command, command_here: Command, tmp_path: Path
) -> None:
    """With features of a frozen network: batch normalisation depends on the rows it gets."""
    import keras

    file = tmp_path / "network.weights.h5"
    network = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    network.save_weights(file)
    vision = [
        "task.vision.network=MobileNetV3Small", f"task.vision.weights={file}",
        "task.vision.train_from=null", "task.decoder.dropout=0",
    ]  # fmt: skip
    train_with_one_and_two(command, command_here, tmp_path, [*CAPTIONING, *vision])


@pytest.mark.slow
@emoji
def test_batch_normalisation_moves_by_the_mean_over_workers(
    command: Command, tmp_path: Path
) -> None:
    overrides = [*CAPTIONING, *FEW_STAGES, "train.workers=2", f"hydra.run.dir={tmp_path}/run"]
    result = command(*overrides)
    assert result.returncode == 0, result.stderr
    loss = read_history(tmp_path / "run")[-1]["train.loss"]
    assert np.isfinite(loss)
    with np.load(tmp_path / "run/checkpoints/best.npz") as best:
        assert all(np.isfinite(best[n]).all() for n in best.files if best[n].dtype.kind == "f")


def other_workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [child for child in children if "pipelines.launch.worker" in child.cmdline()]


class RunningWorkers(NamedTuple):
    """chief and other are the processes of two workers; both write to the log."""

    chief: subprocess.Popen[bytes]
    other: psutil.Process
    directory: Path
    log: Path


def start_two_workers(overrides: list[str], folder: Path) -> RunningWorkers:
    """A run of two workers that has evaluated three times."""
    directory, log = folder / "run", folder / "log"
    chief = start_main(*overrides, f"hydra.run.dir={directory}", log=log)
    wait_for(has_evaluated(directory), chief)
    (other,) = other_workers(chief)
    return RunningWorkers(chief, other, directory, log)


@pytest.mark.slow
class TestLostWorkers:
    """An undisturbed run of two workers, and disturbed ones that end with the same weights."""

    @pytest.fixture(scope="class")
    @classmethod
    def overrides(cls, quick_overrides: list[str]) -> list[str]:
        return [*quick_overrides, *MANY_EPOCHS, *FEW_STAGES, "train.workers=2"]

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
        directory = tmp_path_factory.mktemp("whole") / "run"
        log = directory.with_name("log")
        process = start_main(*overrides, f"hydra.run.dir={directory}", log=log)
        assert process.wait(timeout=600) == 0, log.read_text()
        return directory

    def test_a_killed_worker_is_reported_and_the_resumed_run_has_the_same_weights(
        self, whole: Path, overrides: list[str], command: Command, tmp_path: Path
    ) -> None:
        process, other, directory, log = start_two_workers(overrides, tmp_path)
        other.kill()
        assert process.wait(timeout=60) == WORKER_LOST_EXIT_CODE
        last = log.read_text().splitlines()[-1]
        assert last.startswith("error: worker 1 of 2 at 127.0.0.1:")
        assert "mode=train run=" in last
        assert "Traceback" not in log.read_text()
        result = command("mode=train", f"run={directory}", *FEW_STAGES)
        assert result.returncode == 0, result.stderr
        assert "Going on" in result.stderr
        assert have_same_weights(whole, directory)
        assert read_history(whole) == read_history(directory)

    def test_workers_exit_when_the_chief_is_killed_and_one_process_can_resume(
        self, whole: Path, overrides: list[str], command_here: Command, tmp_path: Path
    ) -> None:
        process, other, directory, log = start_two_workers(overrides, tmp_path)
        process.kill()
        process.wait()
        other.wait(timeout=60)
        last = log.read_text().splitlines()[-1]
        assert "worker 1: worker 0 (the chief) of 2 at 127.0.0.1:" in last
        result = command_here("mode=train", f"run={directory}", "train.workers=1", *FEW_STAGES)
        assert result.returncode == 0, result.stderr
        assert "Going on" in result.stderr
        assert read_metrics(directory)["training"]["workers"] == 1
        steps = [[row["step"] for row in read_history(run)] for run in (whole, directory)]
        assert steps[0] == steps[1]

    @pytest.mark.parametrize("to", ["chief", "other"])
    def test_a_signal_to_one_worker_saves_and_stops_all(
        self, to: str, overrides: list[str], tmp_path: Path
    ) -> None:
        process, other, directory, log = start_two_workers(overrides, tmp_path)
        os.kill(process.pid if to == "chief" else other.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        assert not other.is_running()
        assert f"mode=train run={directory}" in log.read_text()

    def test_processes_with_tf_config_are_one_worker_each(
        self, whole: Path, overrides: list[str], tmp_path: Path
    ) -> None:
        """The same command for both; only the chief's directory is there afterwards."""
        addresses = [f"127.0.0.1:{port}" for port in find_free_ports(2)]
        processes = []
        for index in (0, 1):
            folder = tmp_path / str(index)
            folder.mkdir()
            environment = {"TF_CONFIG": tf_config(index, *addresses)}
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("TF_CONFIG", environment["TF_CONFIG"])
                patch.chdir(folder)
                processes.append(start_main(*overrides, log=tmp_path / f"{index}.log"))
        for index, process in enumerate(processes):
            assert process.wait(timeout=600) == 0, (tmp_path / f"{index}.log").read_text()
        (directory,) = (tmp_path / "0" / "outputs" / "sentiment" / "gru").iterdir()
        assert have_same_weights(whole, directory)
        assert not list((tmp_path / "1").iterdir())


def test_an_unreachable_worker_is_named_by_index_and_address() -> None:
    cluster = Cluster(
        tuple(f"127.0.0.1:{port}" for port in find_free_ports(2)), 0, spawns_others=True
    )
    assert cluster.unreachable() == [1]
    assert cluster.worker_name(1).startswith("worker 1 of 2 at 127.0.0.1:")
