"""Hydra's basic launcher with a setting that Slurm's has: the cores of a job."""

from hydra._internal.core_plugins.basic_launcher import BasicLauncher


class ThreeCores(BasicLauncher):
    def __init__(self, cpus_per_task: int):
        super().__init__()
