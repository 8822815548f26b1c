"""Training by Ray Train: its TensorflowTrainer starts the workers, all anew when one dies.

It sets TF_CONFIG in each of them, and so they are workers like any others (cluster.py). What is
saved is in the run's directory, as always; Ray itself keeps nothing. Only here is ray imported.
"""

from __future__ import annotations

import logging
import logging.config
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from pipelines.config.schema import Config, parse
from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.distributed.cluster import WorkerLostError, is_other
from pipelines.distributed.tensorflow import import_tensorflow
from pipelines.runs.directory import Run
from pipelines.runs.parallel import CORES
from pipelines.runs.signals import SIGNALS, GracefulExit

log = logging.getLogger(__name__)

ITS_OWN = ".ray"
"""Directory below the run's, while Ray is at work."""

MISTAKE = "mistake"
"""File in it by which a worker tells that another attempt would end as this one did."""


def fit(config: Config, run: Run, values: dict[str, Any]) -> None:
    """All stages, by Ray's workers. Raises UserError, or GracefulExit for a signal."""
    import_tensorflow("cpu")  # Ray does it too, and isn't quiet
    try:
        import ray
        from ray.train.v2.api.exceptions import TrainingFailedError
    except ImportError as error:
        raise UserError(f"train.ray needs Ray Train ({error}): pip install '.[ray]'") from None

    # What a worker prints would go to its log, and what it logs is printed.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    own = run.directory.resolve() / ITS_OWN
    shutil.rmtree(own, ignore_errors=True)
    signalled: list[int] = []

    def remember(number: int, frame: Any) -> None:
        signalled.append(number)
        raise KeyboardInterrupt  # whatever is raised, Ray makes this of it

    try:
        trainer = _trainer(config, own, values)
        for number in SIGNALS[1:]:
            signal.signal(number, remember)
        trainer.fit()
        _raise_mistake(own)
    except TrainingFailedError as error:
        _raise_mistake(own)
        reason = " ".join(str(error).split())[-300:]
        raise UserError(f"training by Ray has failed{_remedy(run)} ({reason})") from None
    except (KeyboardInterrupt, SystemExit):  # an exit is the trainer's answer to Ctrl-C
        raise GracefulExit(f"Stopped{_remedy(run)}", [*signalled, signal.SIGINT][0]) from None
    finally:
        ray.shutdown()
        shutil.rmtree(own, ignore_errors=True)


def _trainer(config: Config, own: Path, values: dict[str, Any]) -> Any:
    """TensorflowTrainer, connected."""
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowConfig, TensorflowTrainer

    # Workers see all GPUs of their machine, of which each takes its own (devices.py).
    shares = {"share_cuda_visible_devices": True}
    backend = type("SharingBackend", (TensorflowConfig().backend_cls,), shares)
    sharing = type("SharingConfig", (TensorflowConfig,), {"backend_cls": backend})
    workers = config.train.workers or 1
    use_gpu = _connected(workers, config.train.device)
    given = {
        "values": values,
        "own": str(own),
        "folder": os.getcwd(),
        "command": sys.argv,
        "logging": OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True),
    }
    return TensorflowTrainer(
        _work,
        train_loop_config=given,
        tensorflow_config=sharing(),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=own.name,
            storage_path=str(own.parent),
            failure_config=FailureConfig(max_failures=config.train.ray_failures),
            logging_config=LoggingConfig("CRITICAL"),  # the workers tell what went wrong
        ),
    )


def _connected(workers: int, device: str) -> bool:
    """To the cluster at RAY_ADDRESS, or one that is started here. Whether workers get GPUs."""
    import ray

    address = os.environ.get("RAY_ADDRESS", "local")
    more: dict[str, Any] = {"logging_level": logging.ERROR}
    if address == "local":
        more |= {"num_cpus": max(workers, CORES), "include_dashboard": False}
        more["object_store_memory"] = 100_000_000  # bytes: no large object is put there
    host, colon, port = address.rpartition(":")
    try:
        if colon and "/" not in host:
            socket.create_connection((host, int(port)), timeout=10).close()  # Ray tries for minutes
        ray.init(address, logging_config=ray.LoggingConfig(log_level="ERROR"), **more)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"no Ray cluster lets us in at RAY_ADDRESS={address}: is it there, and does this "
            f"machine have its token? ({reason})"
        ) from None
    there = ray.cluster_resources()
    use_gpu = device == "gpu" or (device == "auto" and there.get("GPU", 0) >= workers)
    kind = "GPU" if use_gpu else "CPU"
    if (count := int(there.get(kind, 0))) < workers:
        log.warning("Ray has %d %ss, and %d workers need one each: waiting.", count, kind, workers)
    return use_gpu


def _work(given: dict[str, Any]) -> None:
    """What each of Ray's workers does, with TF_CONFIG in its environment."""
    from pipelines.launch.chief import run_as_chief
    from pipelines.launch.worker import run_as_worker

    own, values = Path(given["own"]), given["values"]
    if (own / MISTAKE).exists():
        return
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # the trainer sets it, and here is Keras 3
    if Path(given["folder"]).is_dir():
        os.chdir(given["folder"])  # paths on the command line were given from there
    sys.argv = given["command"]
    logging.config.dictConfig(given["logging"])
    config = parse(values)
    try:
        if is_other(config.train.workers):
            run_as_worker(config)
        else:
            run_as_chief(config, Run(own.parent), values)
    except WorkerLostError as error:
        log.error("Ray starts all workers again if it still may, since %s", error)
        raise
    except UserError as error:
        with atomic_write(own / MISTAKE) as temporary:
            temporary.write_text(str(error), encoding="utf-8")
        raise
    except Exception:
        log.exception("a worker has failed")
        raise


def _raise_mistake(own: Path) -> None:
    """UserError of the worker that told one."""
    if (own / MISTAKE).exists():
        raise UserError((own / MISTAKE).read_text(encoding="utf-8"))


def _remedy(run: Run) -> str:
    """How to go on, if there is anything to go on with."""
    saved = run.last.exists()
    return f"; to go on from what was saved: mode=train run={run.directory}" if saved else ""
