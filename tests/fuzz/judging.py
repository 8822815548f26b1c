"""Whether a reader held against a file: it gave a result or said in one line what is wrong."""

from __future__ import annotations

import faulthandler
import io
import logging
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy
from reader import Reader

SECONDS = 30
"""Of the processor's time, after which a reader that takes milliseconds counts as hanging."""

MOST_MEMORY = 1 << 30
"""Bytes that reading a small file may take."""

LONGEST = 2000
"""Characters of a message."""

ROOM = 4 << 30
"""Bytes of addresses that a process may reserve beyond those it has: so the machine lives on."""

RESULT, TOLD = "a result", "told"


class NotHeldError(Exception):
    """A reader didn't hold; the message says in what way."""


class _HangingError(BaseException):
    """No library's `except Exception` catches it."""


def judge(reader: Reader, content: bytes) -> str:
    """RESULT or TOLD. Raises NotHeldError for any other outcome."""
    reader.path.write_bytes(content)
    before = _resident()
    try:
        with _alarm(), _quiet():
            reader.read()
        outcome = RESULT
    except reader.told as error:
        message, outcome = str(error), TOLD
        if "\n" in message or len(message) > LONGEST or not message.strip():
            raise NotHeldError(
                f"message of {len(message):,} characters: {message[:200]!r}"
            ) from None
    except _HangingError:
        raise NotHeldError(f"no end after {SECONDS} seconds of computing") from None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "/pipelines/" in frame.filename] or frames
        place = f"{Path(own[-1].filename).name}, {own[-1].name}"
        raise NotHeldError(f"{type(error).__name__} in {place}: {str(error)[:200]}") from error
    taken = _peak() - before
    if _peak() > _peak_before[0] and taken > MOST_MEMORY:
        _peak_before[0] = _peak()
        raise NotHeldError(f"it took {taken / 1e9:.1f} GB of memory")
    _peak_before[0] = _peak()
    return outcome


def try_inputs(
    contents: SearchStrategy[bytes], count: int, first: int, use: Callable[[bytes], object]
) -> None:
    """Gives so many inputs to `use`, always the same for the same `first`."""

    @seed(first)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(contents)
    def check(content: bytes) -> None:
        use(content)

    check()


_peak_before = [0]


def _peak() -> int:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _resident() -> int:
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return _peak()
    return int(pages) * resource.getpagesize()


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise _HangingError

    former = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)


@contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def bounded() -> Iterator[None]:
    """This process may reserve ROOM more memory than it has, and no more."""
    faulthandler.enable(sys.__stderr__)
    former = resource.getrlimit(resource.RLIMIT_AS)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, former)
