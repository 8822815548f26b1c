"""main.py whose sweeps start fake_run.py, and which writes no leaderboard."""

import os
import runpy
import sys
from pathlib import Path

from pipelines.core.paths import MAIN
from pipelines.sweep import hydra_sweeper as sweeper
from pipelines.sweep import trial_process as processes
from pipelines.sweep import trials as stored

HERE = Path(__file__).parent
processes.SCRIPT = HERE / "fake_run.py"
# What main.py imports before it knows that it stands aside for the stand-in.
slow = ("slow_import",) if "SLOW_IMPORT" in os.environ else ()
processes.IMPORTED = ("hydra._internal.hydra", "pipelines.sweep.hydra_sweeper", *slow)
if "FAKE_DEAD" in os.environ:  # seconds
    stored.DEAD = float(os.environ["FAKE_DEAD"])
    stored.HEARTBEAT = stored.DEAD / 5
sweeper.compare_at_end = lambda directory: None
sys.argv[0] = str(MAIN)
runpy.run_path(sys.argv[0], run_name="__main__")
