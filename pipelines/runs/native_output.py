"""Messages that native libraries write to the terminal without Python's logging."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def suppress_native_stderr() -> Iterator[None]:
    """Drops what native code writes to standard error, such as TensorFlow's greetings at import.

    TensorFlow reads its log level from the environment, but only when it is imported. Until then
    its libraries write to file descriptor 2 in any case, so that one is redirected meanwhile.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    original, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(null)
