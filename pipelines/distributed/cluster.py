"""The cluster of processes that train one model: given by TF_CONFIG or Slurm, or spawned here.

TensorFlow is imported only to parse Slurm's host lists.
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

from pipelines.core.errors import UserError, shown
from pipelines.core.paths import python_path
from pipelines.runs.native_output import suppress_native_stderr

WORKER_LOST_EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: the next attempt may succeed."""

SLURM_BASE_PORT = 20000
"""With Slurm, each job uses a range of ports of its own above this one."""

SLURM_PORTS_PER_JOB, SLURM_PORT_RANGE = 16, 12000

EXIT_TIMEOUT = 10.0
"""Seconds that a spawned worker may take to end by itself."""


class WorkerLostError(UserError):
    """Another worker can no longer be reached. What was saved is kept."""


@dataclass(frozen=True)
class Cluster:
    """The addresses of all workers, the chief first, and this process' index among them.

    addresses      host:port of each worker.
    spawns_others  whether this process starts the other workers, on this machine.
    """

    addresses: tuple[str, ...]
    index: int
    spawns_others: bool = False

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    def __len__(self) -> int:
        return len(self.addresses)

    @property
    def local_indices(self) -> list[int]:
        """The workers on this machine."""
        hosts = [address.rpartition(":")[0] for address in self.addresses]
        return [index for index, host in enumerate(hosts) if host == hosts[self.index]]

    def worker_name(self, index: int) -> str:
        """A worker as messages name it, counted from 0 as in TF_CONFIG and Slurm."""
        role = " (the chief)" if index == 0 else ""
        return f"worker {index}{role} of {len(self)} at {self.addresses[index]}"

    def tf_config(self, index: int) -> str:
        """The value of TF_CONFIG for a worker."""
        task = {"type": "worker", "index": index}
        return json.dumps({"cluster": {"worker": self.addresses}, "task": task})

    def unreachable(self) -> list[int]:
        """The other workers whose port accepts no connection."""
        others = [index for index in range(len(self)) if index != self.index]
        return [index for index in others if not self._accepts_connection(index)]

    def _accepts_connection(self, index: int) -> bool:
        host, _, port = self.addresses[index].rpartition(":")
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=2):
            return True
        return False


def rank_from_environment(
    environment: Mapping[str, str] = os.environ,
) -> tuple[int, int] | None:
    """(rank of this worker, number of workers) by TF_CONFIG or Slurm; the chief has rank 0.

    None without either. Raises UserError if TF_CONFIG doesn't describe workers.
    """
    if environment.get("TF_CONFIG"):
        addresses, index = _parse_tf_config(environment["TF_CONFIG"])
        return (index, len(addresses)) if len(addresses) > 1 else None
    # Only within srun: the batch script itself is one process, however many tasks its job has.
    names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST")
    if all(environment.get(name) for name in names):
        rank, count = int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"])
        return (rank, count) if count > 1 else None
    return None


def is_non_chief(workers: object) -> bool:
    """Whether this process is a worker other than the chief. workers: train.workers."""
    rank = None if workers == 1 else rank_from_environment()
    return rank is not None and rank[0] > 0


def check_workers(workers: int | None) -> None:
    """Raises UserError if train.workers contradicts the environment, or TF_CONFIG is invalid."""
    if workers == 1:
        return
    given = rank_from_environment()
    if given is not None and workers not in (None, given[1]):
        source = "TF_CONFIG" if os.environ.get("TF_CONFIG") else "Slurm"
        raise UserError(
            f"train.workers={workers}, but {source} has {given[1]} workers: leave train.workers "
            "out, or set it to 1 for processes that each train a model of their own"
        )


def check_ray(ray: bool) -> None:
    """Raises UserError if train.ray is impossible, as far as can be seen without Ray."""
    if not ray:
        return
    if importlib.util.find_spec("ray") is None:
        raise UserError("train.ray needs Ray, which is not installed: pip install '.[ray]'")
    if rank_from_environment() is not None:
        raise UserError(
            "train.ray=true, but TF_CONFIG or Slurm say who trains: start one process without "
            "them, or leave train.ray out"
        )


def resolve_cluster(workers: int | None) -> Cluster | None:
    """The cluster that trains; None if this process trains alone. workers: train.workers."""
    check_workers(workers)
    given = None if workers == 1 else rank_from_environment()
    if given is not None:
        text = os.environ.get("TF_CONFIG")
        return Cluster(*(_parse_tf_config(text) if text else _resolve_slurm(os.environ)))
    if workers is None or workers == 1:
        return None
    addresses = tuple(f"127.0.0.1:{port}" for port in find_free_ports(workers))
    return Cluster(addresses, 0, spawns_others=True)


def _parse_tf_config(text: str) -> tuple[tuple[str, ...], int]:
    try:
        config = json.loads(text)
        jobs, task = config.get("cluster", {}), config.get("task", {})
        if not jobs:
            return ("",), 0  # as some platforms have it for a job of one process
        if set(jobs) - {"chief", "worker"} or task.get("type", "worker") not in jobs:
            raise UserError(
                "TF_CONFIG may have jobs chief and worker, and a task of one of them; received "
                f"{', '.join(jobs)}, and a task of {shown(task.get('type'))}"
            )
        chiefs, others = list(jobs.get("chief", [])), list(jobs.get("worker", []))
        index = int(task["index"]) + (len(chiefs) if task["type"] == "worker" else 0)
        addresses = tuple(str(address) for address in [*chiefs, *others])
        if not 0 <= index < len(addresses) or not all(":" in address for address in addresses):
            raise ValueError("no such task, or an address that isn't host:port")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            'TF_CONFIG must be {"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
            f'"worker", "index": 0}}}}; received {shown(text)} ({type(error).__name__}: {error})'
        ) from None
    return addresses, index


def _resolve_slurm(environment: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    """Addresses and rank from Slurm's host list and tasks per node.

    Only the parsers of TensorFlow's SlurmClusterResolver are used: the resolver itself divides by
    zero where there are no GPUs, and sorts n10 before n2, which isn't the order of ranks.
    """
    with suppress_native_stderr():
        from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    hosts = slurm.expand_hostlist(environment["SLURM_STEP_NODELIST"])
    tasks = slurm.expand_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
    job = int(environment.get("SLURM_JOB_ID", 0))
    first_port = SLURM_BASE_PORT + job * SLURM_PORTS_PER_JOB % SLURM_PORT_RANGE
    addresses = tuple(
        f"{host}:{first_port + offset}"
        for host, count in zip(hosts, tasks, strict=True)
        for offset in range(count)
    )
    return addresses, int(environment["SLURM_PROCID"])


def find_free_ports(count: int) -> list[int]:
    """Ports that are free now. All are bound before any is closed, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def spawn_workers(cluster: Cluster | None, device: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Runs the other workers during the block, if the cluster says that this process spawns them.

    A worker reports its error on standard error, in a line. Workers write no files, so they are
    killed when the block ends with an error; otherwise, and on a signal, they end by themselves.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        if cluster is not None and cluster.spawns_others:
            for index in range(1, len(cluster)):
                processes.append(_spawn_worker(cluster, index, device))
        yield processes
    except Exception:
        for process in processes:
            process.kill()
        raise
    finally:
        for process in processes:
            _wait_or_kill(process)


def _spawn_worker(cluster: Cluster, index: int, device: str) -> subprocess.Popen[bytes]:
    environment = {"PYTHONPATH": python_path(), "TF_CONFIG": cluster.tf_config(index)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "pipelines.launch.worker", device, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=EXIT_TIMEOUT)
    process.kill()
    process.wait()
