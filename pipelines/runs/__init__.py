"""Run directories: files, checkpoints, measurements, progress, signals, tracking."""
