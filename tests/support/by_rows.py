"""main.py that updates every embedding by rows, small as those of tests are, in short windows."""

import runpy
import sys

from pipelines.core.paths import MAIN
from pipelines.train import lazy_adam as row_adam

row_adam.ROWS_PAY, row_adam.WINDOW, row_adam.CHUNK = 1, 16, 10
sys.argv[0] = str(MAIN)
runpy.run_path(sys.argv[0], run_name="__main__")
