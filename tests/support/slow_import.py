"""Stands in for all that a run imports; takes $SLOW_IMPORT seconds."""

import os
import time

time.sleep(float(os.environ["SLOW_IMPORT"]))
