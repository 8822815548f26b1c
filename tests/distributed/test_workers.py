"""Several workers train as one does, and none is lost without a word.

Workers are processes: those that are started here are few and small.
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
from conftest import ROOT, Command, refused
from tiny_captioning import QUICK as CAPTIONING
from tiny_captioning import emoji
from tiny_translation import QUICK as TRANSLATION
from two_workers import MANY, NO_CHANCE, close, evaluations, tf_config
from whole_runs import FEW_STAGES, half_written, history, read, same_weights, started, wait_for

from pipelines.distributed import cluster
from pipelines.distributed.cluster import LOST, Cluster, given_rank
from pipelines.distributed.workers import Workers


def test_the_chief_comes_first_and_each_knows_who_is_on_its_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = {"worker": ["b:1", "b:2"], "chief": ["a:1"]}
    text = json.dumps({"cluster": jobs, "task": {"type": "worker", "index": 1}})
    monkeypatch.setenv("TF_CONFIG", text)
    made = cluster.cluster(None)
    assert made == Cluster(("a:1", "b:1", "b:2"), 2)
    assert made.here == [1, 2]
    assert not made.is_chief
    assert cluster.cluster(1) is None, "train.workers=1 is alone whatever the environment says"


@pytest.mark.parametrize(
    ("nodes", "tasks", "expected"),
    [
        ("n[2,10]", "2(x2)", ["n2", "n2", "n10", "n10"]),
        ("gpu07,cpu[1-2]", "1,2,1", ["gpu07", "cpu1", "cpu1", "cpu2"]),
    ],
)
def test_slurms_tasks_are_workers_in_the_order_of_their_ranks(
    monkeypatch: pytest.MonkeyPatch, nodes: str, tasks: str, expected: list[str]
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in {
        "PROCID": "3", "STEP_NUM_TASKS": "4", "STEP_NODELIST": nodes,
        "STEP_TASKS_PER_NODE": tasks, "JOB_ID": "123",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", value)
    made = cluster.cluster(None)
    assert made is not None
    assert made.index == 3
    assert [address.partition(":")[0] for address in made.addresses] == expected
    assert len(set(made.addresses)) == 4


def test_a_task_of_slurms_finds_the_others_without_a_message_of_tensorflows() -> None:
    tasks = {
        "PROCID": "1", "STEP_NUM_TASKS": "2", "STEP_NODELIST": "n[1-2]",
        "STEP_TASKS_PER_NODE": "1(x2)", "JOB_ID": "123",
    }  # fmt: skip
    without = {"TF_CONFIG", "TF_CPP_MIN_LOG_LEVEL"}
    given = {name: value for name, value in os.environ.items() if name not in without}
    code = "from pipelines.distributed.cluster import cluster; print(cluster(None).index)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**given, **{f"SLURM_{name}": value for name, value in tasks.items()}},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_batch_script_of_slurms_is_no_worker() -> None:
    assert given_rank({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None
    assert given_rank({"TF_CONFIG": tf_config(0, "a:1")}) is None
    assert given_rank({"TF_CONFIG": "{}"}) is None


@pytest.mark.parametrize(
    ("settings", "environment", "told"),
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
def test_what_cant_be_is_told_in_a_line_before_anything_is_written(
    settings: list[str], environment: dict, told: str, command_here: Command, tmp_path: Path
) -> None:
    refused(command_here(*settings, **environment), told, tmp_path)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_a_gpu_that_isnt_there_is_missed(command_here: Command) -> None:
    done = command_here("train.device=gpu")
    assert done.returncode == 1
    assert "there is none here: use train.device=cpu" in done.stderr


def worker(index: int, number: int) -> Workers:
    """Its part of a batch is told without a cluster."""
    made = Workers()
    made.index, made.number = index, number
    return made


@pytest.mark.parametrize(("rows", "number"), [(7, 2), (6, 3), (1, 2), (2, 5)])
def test_each_row_of_a_batch_counts_with_one_worker(rows: int, number: int) -> None:
    columns = {"x": np.arange(rows), "y": np.arange(rows * 2).reshape(rows, 2)}
    counted: list[int] = []
    for index in range(number):
        part, counts = worker(index, number).part(columns)
        assert len(part["x"]) >= 1, "layers needn't know how to take no rows"
        np.testing.assert_array_equal(part["y"][:, 0], part["x"] * 2)
        counted += part["x"].tolist() if counts else []
    assert sorted(counted) == list(range(rows))


def both(command: Command, command_here: Command, tmp_path: Path, overrides: list[str]) -> None:
    """Trains alone and with two workers, and compares."""
    for name, workers, go in (("one", 1, command_here), ("two", 2, command)):
        asked = [f"train.workers={workers}", f"hydra.run.dir={tmp_path}/{name}", *FEW_STAGES]
        done = go(*overrides, *NO_CHANCE, *asked)
        assert done.returncode == 0, done.stderr
    close(tmp_path / "one", tmp_path / "two")
    assert read(tmp_path / "two")["training"]["workers"] == 2
    assert read(tmp_path / "two")["training"]["device"] in ("CPU", "GPU")


def test_two_workers_have_the_losses_of_one(
    quick: list[str], command: Command, command_here: Command, tmp_path: Path
) -> None:
    """Batches of 7 and, at the end, of 1, so that one worker has nothing to do."""
    uneven = ["train.batch_examples=7", "train.by_length=false", "task.dropout=0"]
    both(command, command_here, tmp_path, [*quick, *uneven, "model.layers=2"])
    best = [np.load(tmp_path / run / "checkpoints/best.npz") for run in ("one", "two")]
    for name in best[0].files:
        if name != "state":
            np.testing.assert_allclose(best[0][name], best[1][name], atol=1e-4)
    assert not half_written(tmp_path / "two")
    assert "training: workers" in (tmp_path / "two" / "report.html").read_text()


@pytest.mark.slow
def test_two_workers_translate_as_one_does(
    pairs: list[str],
    command: Command,
    command_here: Command,
    tmp_path: Path,
) -> None:
    asked = [*TRANSLATION, *pairs, "task.decoder.dropout=0", "train.accumulate=2"]
    both(command, command_here, tmp_path, asked)


@pytest.mark.slow
@emoji
def test_two_workers_caption_as_one_does(
    command: Command, command_here: Command, tmp_path: Path
) -> None:
    """By features of a frozen network: batch normalisation goes by the rows that it sees."""
    import keras

    file = tmp_path / "network.weights.h5"
    made = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    made.save_weights(file)
    vision = [
        "task.vision.network=MobileNetV3Small", f"task.vision.weights={file}",
        "task.vision.train_from=null", "task.decoder.dropout=0",
    ]  # fmt: skip
    both(command, command_here, tmp_path, [*CAPTIONING, *vision])


@pytest.mark.slow
@emoji
def test_batch_normalisation_moves_by_the_mean_over_workers(
    command: Command, tmp_path: Path
) -> None:
    asked = [*CAPTIONING, *FEW_STAGES, "train.workers=2", f"hydra.run.dir={tmp_path}/run"]
    done = command(*asked)
    assert done.returncode == 0, done.stderr
    loss = history(tmp_path / "run")[-1]["train.loss"]
    assert np.isfinite(loss)
    with np.load(tmp_path / "run/checkpoints/best.npz") as best:
        assert all(np.isfinite(best[n]).all() for n in best.files if best[n].dtype.kind == "f")


def other_workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [child for child in children if "pipelines.launch.worker" in child.cmdline()]


class UnderWay(NamedTuple):
    """chief and other are the processes of two workers; the log is what both tell."""

    chief: subprocess.Popen[bytes]
    other: psutil.Process
    directory: Path
    log: Path


def well_under_way(asked: list[str], folder: Path) -> UnderWay:
    """A run of two workers that has been evaluated three times."""
    directory, log = folder / "run", folder / "log"
    chief = started(*asked, f"hydra.run.dir={directory}", log=log)
    wait_for(evaluations(directory), chief)
    (other,) = other_workers(chief)
    return UnderWay(chief, other, directory, log)


@pytest.mark.slow
class TestLosses:
    """One run of two workers that nobody disturbed, and others that end with its weights."""

    @pytest.fixture(scope="class")
    @classmethod
    def asked(cls, quick: list[str]) -> list[str]:
        return [*quick, *MANY, *FEW_STAGES, "train.workers=2"]

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, asked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
        directory = tmp_path_factory.mktemp("whole") / "run"
        log = directory.with_name("log")
        process = started(*asked, f"hydra.run.dir={directory}", log=log)
        assert process.wait(timeout=600) == 0, log.read_text()
        return directory

    def test_a_killed_worker_is_told_and_the_run_goes_on_to_the_same_weights(
        self, whole: Path, asked: list[str], command: Command, tmp_path: Path
    ) -> None:
        process, other, directory, log = well_under_way(asked, tmp_path)
        other.kill()
        assert process.wait(timeout=60) == LOST
        last = log.read_text().splitlines()[-1]
        assert last.startswith("error: worker 1 of 2 at 127.0.0.1:")
        assert "mode=train run=" in last
        assert "Traceback" not in log.read_text()
        done = command("mode=train", f"run={directory}", *FEW_STAGES)
        assert done.returncode == 0, done.stderr
        assert "Going on" in done.stderr
        assert same_weights(whole, directory)
        assert history(whole) == history(directory)

    def test_the_other_worker_ends_when_the_chief_is_killed_and_one_alone_goes_on(
        self, whole: Path, asked: list[str], command_here: Command, tmp_path: Path
    ) -> None:
        process, other, directory, log = well_under_way(asked, tmp_path)
        process.kill()
        process.wait()
        other.wait(timeout=60)
        last = log.read_text().splitlines()[-1]
        assert "worker 1: worker 0 (the chief) of 2 at 127.0.0.1:" in last
        done = command_here("mode=train", f"run={directory}", "train.workers=1", *FEW_STAGES)
        assert done.returncode == 0, done.stderr
        assert "Going on" in done.stderr
        assert read(directory)["training"]["workers"] == 1
        steps = [[row["step"] for row in history(run)] for run in (whole, directory)]
        assert steps[0] == steps[1]

    @pytest.mark.parametrize("to", ["chief", "other"])
    def test_a_signal_to_one_worker_saves_and_ends_all(
        self, to: str, asked: list[str], tmp_path: Path
    ) -> None:
        process, other, directory, log = well_under_way(asked, tmp_path)
        os.kill(process.pid if to == "chief" else other.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        assert not other.is_running()
        assert f"mode=train run={directory}" in log.read_text()

    def test_processes_that_are_given_tf_config_are_a_worker_each(
        self, whole: Path, asked: list[str], tmp_path: Path
    ) -> None:
        """The same command for both; only the chief's directory is there afterwards."""
        addresses = [f"127.0.0.1:{port}" for port in cluster._free_ports(2)]
        processes = []
        for index in (0, 1):
            folder = tmp_path / str(index)
            folder.mkdir()
            environment = {"TF_CONFIG": tf_config(index, *addresses)}
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("TF_CONFIG", environment["TF_CONFIG"])
                patch.chdir(folder)
                processes.append(started(*asked, log=tmp_path / f"{index}.log"))
        for index, process in enumerate(processes):
            assert process.wait(timeout=600) == 0, (tmp_path / f"{index}.log").read_text()
        (directory,) = (tmp_path / "0" / "outputs" / "sentiment" / "gru").iterdir()
        assert same_weights(whole, directory)
        assert not list((tmp_path / "1").iterdir())


def test_a_worker_that_is_not_there_is_known_by_number_and_address() -> None:
    made = Cluster(tuple(f"127.0.0.1:{port}" for port in cluster._free_ports(2)), 0, started=True)
    assert made.silent() == [1]
    assert made.name(1).startswith("worker 1 of 2 at 127.0.0.1:")
