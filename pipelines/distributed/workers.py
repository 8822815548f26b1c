"""Workers: the processes that train one model together, with sums over all of them.

Each worker holds the whole model in plain variables, reads the same batch plan, and takes its shard
of each batch. Gradients are summed before each training step, so all workers take the same step.
TensorFlow's MultiWorkerMirroredStrategy forms the cluster and sums. Keras' own trainer isn't used,
and neither are mirrored variables: tests/test_upstream.py says what is wrong with the former.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from models.seeds import stream
from pipelines.core.contracts import Batch
from pipelines.distributed.cluster import WORKER_LOST_EXIT_CODE, Cluster, WorkerLostError
from pipelines.runs.signals import SIGNALS

if TYPE_CHECKING:
    import keras

FORMATION_TIMEOUT = 600.0
"""Seconds that a cluster may take to form."""

POLL_SECONDS = 0.2
"""Seconds between two checks while the cluster forms."""


class Workers:
    """This process among those that train one model. A single process needs no communication."""

    def __init__(
        self, cluster: Cluster | None = None, processes: Sequence[subprocess.Popen[bytes]] = ()
    ):
        """Blocks until all workers are connected. processes: of other workers; must not end."""
        self.cluster = cluster
        self.index, self.count = (cluster.index, len(cluster)) if cluster else (0, 1)
        self.is_chief = self.index == 0
        if cluster is None:
            return
        with _exit_unless_formed(cluster, processes):
            self._strategy = _create_strategy(cluster)
        self._signal_counts = tf.Variable(tf.zeros([len(SIGNALS)]), trainable=False)
        # All workers must create their collective operations in the same order, so this one is
        # traced here rather than at its first use.
        self._sum_words = tf.function(
            self._all_reduce, input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False
        ).get_concrete_function()

    def _all_reduce(self, values: tf.Tensor) -> tf.Tensor:
        """Graph code: the sum over workers, on each of them."""

        def sum_in_replica(values: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # The tensor to be summed must be on the replica's device.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

        return self._strategy.run(sum_in_replica, args=(values,))

    def all_reduce_sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Graph code: float32 tensors summed over workers, in one collective operation.

        The operation also carries the signals that `post_signal` has noted, so that they cost no
        communication of their own.
        """
        if self.count == 1:
            return list(tensors)
        # One collective for all tensors: they are flattened, concatenated, summed and split again.
        parts = [tf.convert_to_tensor(self._signal_counts), *tensors]
        flat = self._all_reduce(tf.concat([tf.reshape(part, [-1]) for part in parts], 0))
        signals, *sums = tf.split(flat, [tf.size(part) for part in parts], num=len(parts))
        self._signal_counts.assign(tf.reshape(signals, [len(SIGNALS)]))
        return [
            tf.reshape(total, tf.shape(tensor)) for total, tensor in zip(sums, tensors, strict=True)
        ]

    def post_signal(self, signal: int | None) -> None:
        """Notes this process' signal; the next `all_reduce_sum` brings it to all workers."""
        if self.count > 1:
            self._signal_counts.assign([float(signal == known) for known in SIGNALS])

    def pending_signal(self, signal: int | None) -> int | None:
        """The signal that any worker had posted before the last training step.

        A single process has no others: it gets back its own `signal`.
        """
        if self.count == 1:
            return signal
        counts = self._signal_counts.numpy()
        return next((known for known, n in zip(SIGNALS, counts, strict=True) if n), None)

    def broadcast(self, value: Any = None) -> Any:
        """The chief's value, which must be JSON, on all workers."""
        if self.count == 1:
            return value
        text = json.dumps(value).encode() if self.is_chief else b""
        return json.loads(self._broadcast_bytes(text))

    def barrier(self) -> None:
        """Blocks until all workers have called it."""
        self.broadcast()

    def broadcast_variables(
        self, variables: Mapping[str, Sequence[keras.Variable | tf.Variable]]
    ) -> None:
        """Assigns the chief's values on the other workers, bit by bit, whatever their types."""
        if self.count == 1:
            return
        members = [variable for group in variables.values() for variable in group]
        values = [np.asarray(variable) for variable in members]
        content = self._broadcast_bytes(b"".join(value.tobytes() for value in values))
        if self.is_chief:
            return
        start = 0
        for variable, value in zip(members, values, strict=True):
            part = content[start : start + value.nbytes]
            variable.assign(np.frombuffer(part, value.dtype).reshape(value.shape))
            start += value.nbytes

    def _broadcast_bytes(self, content: bytes) -> bytes:
        """The chief's bytes on all workers.

        TensorFlow offers workers a sum, but no broadcast. So the chief adds its bytes, as int32
        words, and everyone else adds zeros: the sum is what the chief has. Integers, because a sum
        of floats would change NaN payloads and negative zeros. The length goes first, since all
        must sum arrays of one shape.
        """
        length = int(self._sum_words(tf.constant([len(content) * self.is_chief], tf.int32))[0])
        padded = np.zeros(-(-length // 4) * 4, np.uint8)  # rounded up to whole words
        if self.is_chief:
            padded[:length] = np.frombuffer(content, np.uint8)
        words = self._sum_words(tf.constant(padded.view(np.int32))).numpy()
        return words.tobytes()[:length]

    def reseed_generators(self, variables: Sequence[keras.Variable]) -> None:
        """Gives the seed generators among `variables` a random stream of this worker's own.

        The new seed is derived from the chief's and this worker's index. How often each generator
        has been used is the same on all workers, and stays the chief's.
        """
        if self.is_chief:
            return
        for variable in variables:
            if variable.path.endswith("seed_generator_state"):
                seed, count = np.asarray(variable)
                variable.assign(np.array([stream(int(seed), f"worker {self.index}"), count]))

    def shard(self, columns: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], bool]:
        """This worker's rows of a batch, every n-th, and whether they count.

        With fewer rows than workers, some workers get the first row, which doesn't count for them:
        not every layer accepts a batch without rows.
        """
        if self.count == 1:
            return columns, True
        rows = len(next(iter(columns.values())))
        mine = slice(self.index, None, self.count) if self.index < rows else slice(0, 1)
        return {name: values[mine] for name, values in columns.items()}, self.index < rows

    @contextmanager
    def raise_on_lost_worker(self) -> Iterator[None]:
        """Raises WorkerLostError where TensorFlow reports that a worker can't be reached."""
        try:
            yield
        except tf.errors.OpError as error:
            if self.cluster is None or not _is_communication_error(error):
                raise
            raise WorkerLostError(_describe_lost_workers(self.cluster)) from None


SINGLE_WORKER = Workers()


def with_zero_weights(batch: Batch) -> Batch:
    """The same batch, with all weights 0."""
    return batch._replace(weights=np.zeros_like(batch.weights))


def _create_strategy(cluster: Cluster) -> tf.distribute.Strategy:
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        rpc_layer="grpc",
    )
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


def _is_communication_error(error: tf.errors.OpError) -> bool:
    """Whether the network or another process is to blame, not this one's arithmetic."""
    kinds = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
    return isinstance(error, kinds) or "ollective" in str(error)  # "Collective", "collective"


def _describe_lost_workers(cluster: Cluster) -> str:
    """Which worker was lost, and what to do."""
    time.sleep(0.2)  # a process that is being killed closes its port last
    names = [cluster.worker_name(index) for index in cluster.unreachable()]
    who = " and ".join(names) or "another worker"
    return (
        f"{who} has died, so training can't continue; the last checkpoint is kept: run the same "
        "command again with mode=train run=DIRECTORY, with as many workers as there are"
    )


@contextmanager
def _exit_unless_formed(
    cluster: Cluster, processes: Sequence[subprocess.Popen[bytes]]
) -> Iterator[None]:
    """Ends this process if the others don't connect; TensorFlow would wait for very long.

    Only os._exit can do that: the wait is in native code, which no signal handler interrupts.
    """
    is_formed = threading.Event()

    def watch() -> None:
        deadline = time.monotonic() + FORMATION_TIMEOUT
        while not is_formed.wait(POLL_SECONDS):
            ended = [
                index for index, process in enumerate(processes, 1) if process.poll() is not None
            ]
            if not ended and time.monotonic() < deadline:
                continue
            missing = ended or cluster.unreachable()
            names = " and ".join(map(cluster.worker_name, missing)) or "another worker"
            message = f"error: {names} did not connect: see its own message"
            print(message, file=sys.stderr, flush=True)
            for process in processes:
                with suppress(OSError):
                    process.kill()
            os._exit(WORKER_LOST_EXIT_CODE)

    thread = threading.Thread(target=watch, name="formation", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_formed.set()
        thread.join()
