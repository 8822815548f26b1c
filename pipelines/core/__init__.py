"""Foundations of all packages: contracts, tasks, settings, errors, files. Free of TensorFlow."""
