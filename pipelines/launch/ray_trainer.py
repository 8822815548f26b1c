"""Training with Ray Train: its TensorflowTrainer starts the workers, and restarts all if one dies.

Ray sets TF_CONFIG in each worker, so they are workers like any others (cluster.py). Checkpoints are
in the run's directory, as always; Ray itself stores nothing. Only this module imports ray.
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
from types import FrameType
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from pipelines.config.schema import Config, parse
from pipelines.core.errors import UserError
from pipelines.core.files import atomic_write
from pipelines.core.types import Config as Values
from pipelines.distributed.cluster import WorkerLostError, is_non_chief
from pipelines.distributed.ray_cluster import connect_to_ray
from pipelines.distributed.tensorflow import import_tensorflow
from pipelines.runs.directory import Run
from pipelines.runs.parallel import CORES
from pipelines.runs.signals import SIGNALS, GracefulExit

if TYPE_CHECKING:
    from ray.train.tensorflow import TensorflowTrainer

log = logging.getLogger(__name__)

SCRATCH = ".ray"
"""Directory below the run's, which exists only while Ray trains."""

USER_ERROR = "mistake"
"""File in it with a worker's UserError, after which another attempt would end the same way."""


def fit(config: Config, run: Run, values: Values) -> None:
    """Runs all stages on Ray's workers. Raises UserError, or GracefulExit for a signal."""
    import_tensorflow("cpu")  # Ray imports it too, with all its messages
    try:
        import ray
        from ray.train.v2.api.exceptions import TrainingFailedError
    except ImportError as error:
        raise UserError(f"train.ray needs Ray Train ({error}): pip install '.[ray]'") from None

    # Ray would send what a worker prints to its log; our workers log to the terminal themselves.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    scratch = run.directory.resolve() / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    signals: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        raise KeyboardInterrupt  # Ray turns whatever is raised into this

    try:
        trainer = _create_trainer(config, scratch, values)
        for number in SIGNALS[1:]:
            signal.signal(number, interrupt)
        trainer.fit()
        _raise_user_error(scratch)
    except TrainingFailedError as error:
        _raise_user_error(scratch)
        reason = " ".join(str(error).split())[-300:]
        raise UserError(f"training with Ray has failed{_resume_hint(run)} ({reason})") from None
    except (KeyboardInterrupt, SystemExit):  # the trainer answers Ctrl-C by an exit
        raise GracefulExit(f"Stopped{_resume_hint(run)}", [*signals, signal.SIGINT][0]) from None
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _create_trainer(config: Config, scratch: Path, values: Values) -> TensorflowTrainer:
    """A trainer that is connected to a Ray cluster."""
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowConfig, TensorflowTrainer

    # Ray shows each worker one GPU. Ours see all of their machine and choose by rank (devices.py),
    # so the backend is derived with the attribute by which Ray shares them.
    shares = {"share_cuda_visible_devices": True}
    backend = type("SharingBackend", (TensorflowConfig().backend_cls,), shares)
    sharing = type("SharingConfig", (TensorflowConfig,), {"backend_cls": backend})
    workers = config.train.workers or 1
    use_gpu = _connect(workers, config.train.device)
    worker_config = {
        "values": values,
        "scratch": str(scratch),
        "folder": os.getcwd(),
        "argv": sys.argv,
        "logging": OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True),
    }
    return TensorflowTrainer(
        _run_worker,
        train_loop_config=worker_config,
        tensorflow_config=sharing(),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=scratch.name,
            storage_path=str(scratch.parent),
            failure_config=FailureConfig(max_failures=config.train.ray_failures),
            logging_config=LoggingConfig("CRITICAL"),  # the workers report errors themselves
        ),
    )


def _connect(workers: int, device: str) -> bool:
    """Connects to the cluster at RAY_ADDRESS, or starts one here. Returns whether it has GPUs."""
    import ray

    address = os.environ.get("RAY_ADDRESS", "local")
    options: dict[str, Any] = {"logging_level": logging.ERROR}
    options["logging_config"] = ray.LoggingConfig(log_level="ERROR")
    if address == "local":
        options |= {"num_cpus": max(workers, CORES), "include_dashboard": False}
        options["object_store_memory"] = 100_000_000  # bytes: nothing large is stored there
    host, colon, port = address.rpartition(":")
    try:
        if colon and "/" not in host:
            socket.create_connection(
                (host, int(port)), timeout=10
            ).close()  # Ray would retry for minutes
        connect_to_ray(
            address=address, logging_config=ray.LoggingConfig(log_level="ERROR"), **options
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"no Ray cluster lets us in at RAY_ADDRESS={address}: is it there, and does this "
            f"machine have its token? ({reason})"
        ) from None
    resources = ray.cluster_resources()
    use_gpu = device == "gpu" or (device == "auto" and resources.get("GPU", 0) >= workers)
    kind = "GPU" if use_gpu else "CPU"
    if (count := int(resources.get(kind, 0))) < workers:
        log.warning("Ray has %d %ss, and %d workers need one each: waiting.", count, kind, workers)
    return use_gpu


def _run_worker(worker_config: dict[str, Any]) -> None:
    """Runs in each of Ray's workers, with TF_CONFIG in its environment."""
    from pipelines.launch.chief import run_as_chief
    from pipelines.launch.worker import run_as_worker

    scratch, values = Path(worker_config["scratch"]), worker_config["values"]
    if (scratch / USER_ERROR).exists():
        return
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # the trainer sets it, but this is Keras 3
    if Path(worker_config["folder"]).is_dir():
        os.chdir(worker_config["folder"])  # relative paths start there
    sys.argv = worker_config["argv"]
    logging.config.dictConfig(worker_config["logging"])
    config = parse(values)
    try:
        if is_non_chief(config.train.workers):
            run_as_worker(config)
        else:
            run_as_chief(config, Run(scratch.parent), values)
    except WorkerLostError as error:
        log.error("%s; Ray restarts all workers if train.ray_failures allows it", error)
        raise
    except UserError as error:
        with atomic_write(scratch / USER_ERROR) as temporary:
            temporary.write_text(str(error), encoding="utf-8")
        raise
    except Exception:
        log.exception("a worker has failed")
        raise


def _raise_user_error(scratch: Path) -> None:
    """Raises the UserError that a worker has written, if any."""
    if (scratch / USER_ERROR).exists():
        raise UserError((scratch / USER_ERROR).read_text(encoding="utf-8"))


def _resume_hint(run: Run) -> str:
    """How to resume the run; empty if there is no checkpoint."""
    saved = run.last.exists()
    return f"; to resume from the last checkpoint: mode=train run={run.directory}" if saved else ""
