"""Which processes train one model together: what TF_CONFIG or Slurm say, or some on this machine.

Free of TensorFlow, but for the reading of Slurm's lists of hosts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pipelines.core.errors import UserError
from pipelines.core.paths import ROOT
from pipelines.runs.native_output import suppressed_native_stderr

LOST = 75
"""Exit code when another worker is lost: EX_TEMPFAIL of sysexits, for it may succeed next time."""

FIRST_PORT = 20000
"""With Slurm, whose jobs are told apart by the ports above it."""


class WorkerLostError(UserError):
    """Another worker can't be reached any more; nothing that was saved is lost."""


@dataclass(frozen=True)
class Cluster:
    """The workers in order, the chief first, and which of them this process is.

    addresses  host:port of each.
    started    whether this process starts the others, on this machine.
    """

    addresses: tuple[str, ...]
    index: int
    started: bool = False

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    def __len__(self) -> int:
        return len(self.addresses)

    @property
    def here(self) -> list[int]:
        """The workers on the machine of this one."""
        hosts = [address.rpartition(":")[0] for address in self.addresses]
        return [index for index, host in enumerate(hosts) if host == hosts[self.index]]

    def name(self, index: int) -> str:
        """As people are told of it, counted from 0 as TF_CONFIG and Slurm do."""
        role = " (the chief)" if index == 0 else ""
        return f"worker {index}{role} of {len(self)} at {self.addresses[index]}"

    def config(self, index: int) -> str:
        """TF_CONFIG of a worker."""
        task = {"type": "worker", "index": index}
        return json.dumps({"cluster": {"worker": self.addresses}, "task": task})

    def silent(self) -> list[int]:
        """Workers whose port takes no connection: they aren't there, or can't be reached."""
        return [index for index in range(len(self)) if not self._answers(index)]

    def _answers(self, index: int) -> bool:
        host, _, port = self.addresses[index].rpartition(":")
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=2):
            return True
        return index == self.index


def given_rank(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """(number of this worker, how many there are) if the environment says so; the chief is 0.

    UserError if TF_CONFIG says something else than workers.
    """
    if environment.get("TF_CONFIG"):
        addresses, index = _from_tf_config(environment["TF_CONFIG"])
        return (index, len(addresses)) if len(addresses) > 1 else None
    # Only within srun: in a batch script itself there is one process, however many tasks it has.
    names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST")
    if all(environment.get(name) for name in names):
        rank, count = int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"])
        return (rank, count) if count > 1 else None
    return None


def is_other(workers: object) -> bool:
    """Whether this process is a worker that isn't the chief, as train.workers has it."""
    rank = None if workers == 1 else given_rank()
    return rank is not None and rank[0] > 0


def check_workers(workers: int | None) -> None:
    """Raises UserError if train.workers contradicts the environment, or that makes no sense."""
    if workers == 1:
        return
    given = given_rank()
    if given is not None and workers not in (None, given[1]):
        source = "TF_CONFIG" if os.environ.get("TF_CONFIG") else "Slurm"
        raise UserError(
            f"train.workers={workers}, but {source} has {given[1]} workers: leave train.workers "
            "out, or set it to 1 for processes that train each on its own"
        )


def check_ray(ray: bool) -> None:
    """Raises UserError if train.ray can't be, as far as is seen without Ray."""
    if not ray:
        return
    if importlib.util.find_spec("ray") is None:
        raise UserError("train.ray needs Ray, which is not installed: pip install '.[ray]'")
    if given_rank() is not None:
        raise UserError(
            "train.ray=true, but TF_CONFIG or Slurm say who trains: start one process without "
            "them, or leave train.ray out"
        )


def cluster(workers: int | None) -> Cluster | None:
    """Who trains; None if this process does alone."""
    check_workers(workers)
    given = None if workers == 1 else given_rank()
    if given is not None:
        text = os.environ.get("TF_CONFIG")
        return Cluster(*(_from_tf_config(text) if text else _from_slurm(os.environ)))
    if workers is None or workers == 1:
        return None
    return Cluster(tuple(f"127.0.0.1:{port}" for port in _free_ports(workers)), 0, started=True)


def _from_tf_config(text: str) -> tuple[tuple[str, ...], int]:
    try:
        config = json.loads(text)
        jobs, task = config.get("cluster", {}), config.get("task", {})
        if not jobs:
            return ("",), 0  # such as some platforms give a job of one process
        if set(jobs) - {"chief", "worker"} or task.get("type", "worker") not in jobs:
            raise UserError(
                "TF_CONFIG may have jobs chief and worker, and a task of one of them; received "
                f"{', '.join(jobs)}, and a task of {task.get('type')!r}"
            )
        chiefs, others = list(jobs.get("chief", [])), list(jobs.get("worker", []))
        index = int(task["index"]) + (len(chiefs) if task["type"] == "worker" else 0)
        addresses = tuple(str(address) for address in [*chiefs, *others])
        if not 0 <= index < len(addresses) or not all(":" in one for one in addresses):
            raise ValueError("no such task, or an address that isn't host:port")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            'TF_CONFIG must be {"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
            f'"worker", "index": 0}}}}; received {text[:100]!r} ({type(error).__name__}: {error})'
        ) from None
    return addresses, index


def _from_slurm(environment: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    """By the lists that TensorFlow's SlurmClusterResolver reads.

    It itself divides by zero where there are no GPUs, and sorts n10 before n2, which isn't the
    order of ranks.
    """
    with suppressed_native_stderr():
        from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    hosts = slurm.expand_hostlist(environment["SLURM_STEP_NODELIST"])
    tasks = slurm.expand_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
    first = FIRST_PORT + int(environment.get("SLURM_JOB_ID", 0)) * 16 % 12000
    addresses = tuple(
        f"{host}:{first + number}"
        for host, count in zip(hosts, tasks, strict=True)
        for number in range(count)
    )
    return addresses, int(environment["SLURM_PROCID"])


def _free_ports(count: int) -> list[int]:
    """Found all at once, so that none is found twice."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def others_started(cluster: Cluster | None, device: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """While it is entered, the workers that this process starts are there; none otherwise.

    They tell what goes wrong with them on standard error, a line each. Since they write nothing,
    they are killed when the block ends with an error; else, and at a signal, they end themselves.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        if cluster is not None and cluster.started:
            for index in range(1, len(cluster)):
                processes.append(_started(cluster, index, device))
        yield processes
    except Exception:
        for process in processes:
            process.kill()
        raise
    finally:
        for process in processes:
            _ended(process)


def _started(cluster: Cluster, index: int, device: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment: dict[str, Any] = {"PYTHONPATH": path, "TF_CONFIG": cluster.config(index)}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.launch.worker", device, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


PATIENCE = 10.0
"""Seconds that a worker may take to end by itself."""


def _ended(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=PATIENCE)
    process.kill()
    process.wait()
