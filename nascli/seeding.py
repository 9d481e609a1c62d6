"""Seeds for one purpose each.

Every random draw is made from a seed that is a function of (run seed, purpose, step), never from a state that must be
saved: so a resumed run draws exactly what the uninterrupted one would have drawn.
"""

import hashlib


def derive_seed(seed: int, *path: int | str) -> int:
    """A seed for one purpose: the first 63 bits of SHA-256 over the run's seed and the path.

    Args:
        seed: The run's seed.
        path: What the draw is for and when, for instance `("augment", epoch, step)`.
    """
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
