"""A worker that isn't the chief: its part of training, and nothing else. It writes nothing.

python -m pipelines.launch.worker DEVICE PARENT, with TF_CONFIG, is how the chief starts those on
its own machine.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, cast

from pipelines.config.schema import Config, parse
from pipelines.core.errors import UserError
from pipelines.distributed.cluster import (
    LOST,
    Cluster,
    WorkerLostError,
    cluster,
)
from pipelines.distributed.tensorflow import import_tensorflow
from pipelines.runs.directory import Run
from pipelines.runs.logs import stop_logging_to_files
from pipelines.runs.signals import GracefulExit, exit_code
from pipelines.stages import prepare_data, train_model

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)


def run_as_worker(config: Config) -> None:
    """What this process does as a worker that isn't the chief: its part of training, if any."""
    stop_logging_to_files()  # the run's log is the chief's
    if config.mode == "train":
        made = cluster(config.train.workers)
        work(cast(Cluster, made), config.train.device)
    else:
        log.info("mode=%s is the chief's alone: nothing to do for this worker", config.mode)


def work(cluster: Cluster, device: str) -> None:
    """From the cluster's forming to the end of training, with what the chief was asked for."""
    import_tensorflow(device, cluster)
    from pipelines.distributed.workers import Workers

    workers = Workers(cluster)
    with workers.raise_on_lost_worker():
        values, directory = workers.told()
        config, run = parse(values), Run(directory)
        workers.wait()  # until the chief has prepared the data
        data = prepare_data(config, run, writes=False)
        train_model(config, data, run, workers)


def main() -> None:
    """Ends with 0, or a line and 1; 75 if another worker is lost; 128 and more for a signal."""
    device, parent = sys.argv[1], int(sys.argv[2])
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    made = cluster(None)
    if made is None:
        raise SystemExit("error: a worker needs TF_CONFIG, which the chief gives it")
    _end_with(parent, made)
    try:
        work(made, device)
    except GracefulExit as stopped:
        _end(exit_code(stopped))
    except KeyboardInterrupt as interruption:
        _end(exit_code(interruption))
    except WorkerLostError as error:
        _end(LOST, f"worker {made.index}: {error}")
    except (UserError, OSError) as error:
        _end(1, f"worker {made.index}: {' '.join(str(error).split())}")
    _end(0)


def _end(code: int, message: str = "") -> None:
    """At once: TensorFlow's threads have nothing left to do that matters."""
    if message:
        print(f"error: {message}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with(parent: int, made: Cluster) -> None:
    """Follows the chief when it is killed, also while nothing is summed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        time.sleep(1.0)  # time for the better message of a sum that failed
        _end(LOST, f"worker {made.index}: {made.name(0)} has died")

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    main()
