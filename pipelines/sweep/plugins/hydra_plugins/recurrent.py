"""Our sweeper and launcher by the names that conf/hydra has for them.

Hydra accepts only plugins whose module is below `hydra_plugins`, a namespace package: packages that
are installed, such as hydra-ray-launcher, add modules to it as well. So it has no __init__.py.
"""

from pipelines.sweep import hydra_sweeper


class RecurrentSweeper(hydra_sweeper.RecurrentSweeper):
    """See pipelines/sweep/hydra_sweeper.py."""


class LocalLauncher(hydra_sweeper.LocalLauncher):
    """See pipelines/sweep/hydra_sweeper.py."""
