"""A worker other than the chief: it takes part in training and writes no files.

The chief starts the workers on its own machine by `python -m pipelines.launch.worker DEVICE
PARENT_PID`, with TF_CONFIG in the environment.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

from pipelines.config.schema import Config, parse
from pipelines.core.errors import UserError
from pipelines.core.plain_text import error_line
from pipelines.distributed.cluster import (
    WORKER_LOST_EXIT_CODE,
    Cluster,
    WorkerLostError,
    resolve_cluster,
)
from pipelines.distributed.tensorflow import import_tensorflow
from pipelines.runs.directory import Run
from pipelines.runs.logs import stop_logging_to_files
from pipelines.runs.signals import GracefulExit, exit_code
from pipelines.stages import load_encoded_data, train_model, with_codec_of

log = logging.getLogger(__name__)


def run_as_worker(config: Config) -> None:
    """Trains as a worker other than the chief; other modes leave all work to the chief."""
    stop_logging_to_files()  # only the chief writes the run's log
    cluster = resolve_cluster(config.train.workers)
    if config.mode == "train" and cluster is not None:
        train_with_chief(cluster, config.train.device)
    else:
        log.info("mode=%s runs on the chief only: this worker has nothing to do", config.mode)


def train_with_chief(cluster: Cluster, device: str) -> None:
    """Joins the cluster, receives the chief's configuration, and trains to the end."""
    import_tensorflow(device, cluster)
    from pipelines.distributed.workers import Workers

    workers = Workers(cluster)
    with workers.raise_on_lost_worker():
        values, directory = workers.broadcast()
        config, run = parse(values), Run(directory)
        workers.barrier()  # until the chief has prepared the data
        data = with_codec_of(run, load_encoded_data(config), config)
        train_model(config, data, run, workers, record=None)


def main() -> None:
    """Exits with 0, 1 and a line for an error, 75 for a lost worker, 128 + n for a signal."""
    device, parent = sys.argv[1], int(sys.argv[2])
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    cluster = resolve_cluster(None)
    if cluster is None:
        raise SystemExit("error: a worker needs TF_CONFIG, which the chief sets")
    _exit_with_parent(parent, cluster)
    try:
        train_with_chief(cluster, device)
    except GracefulExit as stopped:
        _exit_now(exit_code(stopped))
    except KeyboardInterrupt as interruption:
        _exit_now(exit_code(interruption))
    except WorkerLostError as error:
        _exit_now(WORKER_LOST_EXIT_CODE, f"worker {cluster.index}: {error}")
    except (UserError, OSError) as error:
        _exit_now(1, f"worker {cluster.index}: {error}")
    _exit_now(0)


def _exit_now(code: int, message: str = "") -> None:
    """Exits without waiting for TensorFlow's threads, which may be blocked on a lost worker."""
    if message:
        print(error_line(message), file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_with_parent(parent: int, cluster: Cluster) -> None:
    """Exits when the chief is killed, also between two all-reduces, where no error would tell."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        time.sleep(1.0)  # time for the better message of an all-reduce that failed
        message = f"worker {cluster.index}: {cluster.worker_name(0)} has died"
        _exit_now(WORKER_LOST_EXIT_CODE, message)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    main()
