"""A run from data to report, and a package for each of its stages, modes and config groups."""
