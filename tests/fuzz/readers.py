"""Every reader of files that may come from elsewhere: a valid file of each, and the call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from codec_readers import of_codecs
from data_readers import of_images, of_others, of_rows, of_tags
from reader import Reader
from run_readers import of_caches, of_run, of_sweeps

from pipelines.config.hydra_hooks import register_resolvers


def all_readers(run: Path, folder: Path) -> list[Reader]:
    """The table. `run` is a finished run; only what is in `folder` is damaged."""
    register_resolvers()
    groups = [of_run, of_codecs, of_caches, of_sweeps, of_rows, of_tags, of_images, of_others]
    readers: list[Reader] = []
    for group in groups:
        own = folder / group.__name__
        own.mkdir(parents=True)
        readers += group(run, own)
    return readers


def others(readers: Sequence[Reader]) -> Mapping[str, bytes]:
    """The valid files, by reader; small ones only, since any may take any other's place."""
    return {r.name: r.path.read_bytes() for r in readers if os.path.getsize(r.path) < 200_000}
