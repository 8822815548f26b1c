"""Several runs of one command: a grid or a search, a process a run, resumable."""
