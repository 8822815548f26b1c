"""SIGTERM ends whatever waits, as it ends what works: with one line and 128 + 15."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.core.paths import python_path

WAITS = {
    "for threads that are blocked": """
        import os
        from pipelines.runs.parallel import map_in_order
        os.mkfifo("pipe")
        list(map_in_order(lambda name: open(name).read(), ["pipe"] * 3))
    """,
    "for the reader of a pipe": """
        import os
        from pipelines.predict.prediction_writer import open_writer
        os.mkfifo("pipe")
        with open_writer("pipe", "", None):
            pass
    """,
    "for another process that prepares the same data": """
        import fcntl
        from pathlib import Path
        from pipelines.data.cache import lock_directory
        held = open("data.lock", "w")
        fcntl.flock(held, fcntl.LOCK_EX)
        with lock_directory(Path("data")):
            pass
    """,
    "for standard input": """
        import sys
        list(sys.stdin.buffer)
    """,
}

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from main import _one_line_errors
from pipelines.runs.signals import sigterm_as_interrupt

def wait():
    {wait}

sigterm_as_interrupt()
with _one_line_errors():
    print("waits", flush=True)
    wait()
"""


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_sigterm_ends_what_waits(wait: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    body = "\n".join(line[4:] for line in wait.strip("\n").splitlines())
    script.write_text(SCRIPT.format(root=python_path(), wait=body.strip()))
    pipe = subprocess.PIPE
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "waits\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)  # it does wait
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(timeout=60) == 128 + signal.SIGTERM
        finally:
            process.kill()
        assert process.stderr.read().split() == ["stopped"]
