"""Several processes that train one model: sums over all, and what the chief tells the others.

Each has the whole model in plain variables, reads the same plan, and takes its part of each batch;
gradients are summed before an update, so that all make the same one. TensorFlow's
MultiWorkerMirroredStrategy forms the cluster and sums. Keras' own trainer isn't used, and neither
are mirrored variables: see tests/test_upstream.py for what is wrong with the former.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import tensorflow as tf

from models.seeds import stream
from pipelines.core.contracts import Batch
from pipelines.distributed.cluster import LOST, Cluster, WorkerLostError
from pipelines.runs.signals import SIGNALS

JOIN_SECONDS = 600.0
"""That a cluster may take to form."""

ASKED = len(SIGNALS)


class Workers:
    """This process among those that train one model. Alone, everything is as it is given."""

    def __init__(self, cluster: Cluster | None = None, processes: Sequence[Any] = ()):
        """Waits until all are there. processes: of other workers, which must not end."""
        self.cluster = cluster
        self.index, self.number = (cluster.index, len(cluster)) if cluster else (0, 1)
        self.is_chief = self.index == 0
        if cluster is None:
            return
        with _formation_watched(cluster, processes):
            self._strategy = _strategy(cluster)
        self._asks = tf.Variable(tf.zeros([ASKED]), trainable=False)
        # All processes must make their collective operations in the same order.
        signature = [tf.TensorSpec([None], tf.int32)]
        self._words = tf.function(
            self._all, input_signature=signature, autograph=False
        ).get_concrete_function()

    def _all(self, values: tf.Tensor) -> tf.Tensor:
        """Graph code: the sum over workers."""

        def summed(values: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # What is summed must be on the replica's device.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

        return self._strategy.run(summed, args=(values,))

    def summed(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Graph code: float32 tensors summed over workers, in one operation.

        It also carries what each was asked for by `ask`.
        """
        if self.number == 1:
            return list(tensors)
        parts = [tf.convert_to_tensor(self._asks), *tensors]
        flat = self._all(tf.concat([tf.reshape(part, [-1]) for part in parts], 0))
        sizes = [tf.size(part) for part in parts]
        found = tf.split(flat, sizes, num=len(parts))
        self._asks.assign(tf.reshape(found[0], [ASKED]))
        return [
            tf.reshape(value, tf.shape(like))
            for value, like in zip(found[1:], tensors, strict=True)
        ]

    def ask(self, signal: int | None) -> None:
        """What this process was signalled, to be told to all with the next sum."""
        if self.number > 1:
            self._asks.assign([float(signal == one) for one in SIGNALS])

    def asked(self, signal: int | None) -> int | None:
        """The signal that one of the workers got before the last update; alone, the one given."""
        if self.number == 1:
            return signal
        return next((one for one, n in zip(SIGNALS, self._asks.numpy(), strict=True) if n), None)

    def told(self, value: Any = None) -> Any:
        """The chief's value, of JSON, on all workers."""
        if self.number == 1:
            return value
        text = json.dumps(value).encode() if self.is_chief else b""
        return json.loads(self._bytes(text))

    def wait(self) -> None:
        """Until all workers are here."""
        self.told()

    def share(self, variables: Mapping[str, Sequence[Any]]) -> None:
        """Gives the chief's values to the others, of whatever type they are, bit by bit."""
        if self.number == 1:
            return
        members = [variable for group in variables.values() for variable in group]
        values = [np.asarray(variable) for variable in members]
        content = self._bytes(b"".join(value.tobytes() for value in values))
        if self.is_chief:
            return
        start = 0
        for variable, value in zip(members, values, strict=True):
            part = content[start : start + value.nbytes]
            variable.assign(np.frombuffer(part, value.dtype).reshape(value.shape))
            start += value.nbytes

    def _bytes(self, content: bytes) -> bytes:
        """The chief's, as words that the others add nothing to."""
        length = int(self._words(tf.constant([len(content) * self.is_chief], tf.int32))[0])
        padded = np.zeros(-(-length // 4) * 4, np.uint8)
        if self.is_chief:
            padded[:length] = np.frombuffer(content, np.uint8)
        words = self._words(tf.constant(padded.view(np.int32))).numpy()
        return words.tobytes()[:length]

    def seed(self, variables: Sequence[Any]) -> None:
        """Other random numbers than the chief's: by a seed made of its seed and this number.

        How often each generator was asked is the same for all, and stays the chief's.
        """
        if self.is_chief:
            return
        for variable in variables:
            if variable.path.endswith("seed_generator_state"):
                seed, count = np.asarray(variable)
                variable.assign(np.array([stream(int(seed), f"worker {self.index}"), count]))

    def part(self, columns: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], bool]:
        """Every n-th row of a batch, and whether it counts.

        Where there are fewer rows than workers, some have a row that doesn't count, since not every
        layer takes none.
        """
        if self.number == 1:
            return columns, True
        rows = len(next(iter(columns.values())))
        mine = slice(self.index, None, self.number) if self.index < rows else slice(0, 1)
        return {name: values[mine] for name, values in columns.items()}, self.index < rows

    @contextmanager
    def raise_on_lost_worker(self) -> Iterator[None]:
        """Raises WorkerLostError where TensorFlow says that a worker can't be reached."""
        try:
            yield
        except tf.errors.OpError as error:
            if self.cluster is None or not _is_of_others(error):
                raise
            raise WorkerLostError(_lost(self.cluster)) from None


ALONE = Workers()


def with_zero_weights(batch: Batch) -> Batch:
    """The same, weighing nothing."""
    return batch._replace(weights=np.zeros_like(batch.weights))


def _strategy(cluster: Cluster) -> Any:
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        rpc_layer="grpc",
    )
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


def _is_of_others(error: Any) -> bool:
    """Whether it is the network's or another process' rather than of this one's arithmetic."""
    kinds = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
    return isinstance(error, kinds) or "ollective" in str(error)


def _lost(cluster: Cluster) -> str:
    """Which worker, and what to do."""
    time.sleep(0.2)  # a process that is just being killed closes its port last
    gone = [cluster.name(index) for index in cluster.silent() if index != cluster.index]
    who = " and ".join(gone) or "another worker"
    return (
        f"{who} has died, so that training can't go on; what was saved last is there: give the "
        "same command again with mode=train run=DIRECTORY, with as many workers as there are"
    )


@contextmanager
def _formation_watched(cluster: Cluster, processes: Sequence[Any]) -> Iterator[None]:
    """Ends this process if the others don't come, for TensorFlow would wait for long.

    Nothing but that can be done: the wait is in native code, which no signal handler interrupts.
    """
    formed = threading.Event()

    def watch() -> None:
        deadline = time.monotonic() + JOIN_SECONDS
        while not formed.wait(0.2):
            ended = [number for number, one in enumerate(processes, 1) if one.poll() is not None]
            if not ended and time.monotonic() < deadline:
                continue
            missing = ended or [n for n in cluster.silent() if n != cluster.index]
            names = " and ".join(map(cluster.name, missing)) or "another worker"
            print(f"error: {names} did not come: see what it says", file=sys.stderr, flush=True)
            for process in processes:
                with suppress(OSError):
                    process.kill()
            os._exit(LOST)

    thread = threading.Thread(target=watch, name="formation", daemon=True)
    thread.start()
    try:
        yield
    finally:
        formed.set()
        thread.join()
