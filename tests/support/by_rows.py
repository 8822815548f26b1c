"""main.py with every embedding lazy, small as those of tests are, and flushed often."""

import runpy
import sys
from functools import partial

from pipelines.core.paths import MAIN
from pipelines.train import loop
from pipelines.train.lazy_adam import LazySettings

LAZY = LazySettings(smallest_matrix=1, window=16, chunk=10)

loop.Learner = partial(loop.Learner, lazy_settings=LAZY)  # type: ignore[misc,assignment]
sys.argv[0] = str(MAIN)
runpy.run_path(sys.argv[0], run_name="__main__")
