"""Randomness by named streams: a new use of it shifts none of the others."""

import zlib

import numpy as np


def stream(seed: int, name: str) -> int:
    """A 31-bit seed for one use, such as one weight or one dropout layer."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
    return int(sequence.generate_state(1)[0] >> 1)
