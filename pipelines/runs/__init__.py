"""Run directories: files, checkpoints, measurements, progress, logs, signals, tracking."""
