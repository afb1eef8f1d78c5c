"""Randomness without state: every draw is a hash of the numbers that name it (docs/architecture.md 3.2).

A draw names its `seed`, a `stream` (what the draw is for) and one or more index arrays (sample, epoch, view). Nothing
depends on batch size, worker count, or what was drawn before, so any part of a run can be replayed alone.
The mixing function is splitmix64's finaliser (Steele et al. 2014).
"""

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def seed_of(*parts: str | int) -> int:
    """A seed in [0, 2^32) that is a function of `parts` alone, such as ("confirm", sweep seed, 3)."""
    digest = hashlib.sha256("\x1f".join(f"{type(part).__name__}:{part}" for part in parts).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def bits(seed: int, stream: str, *index: ArrayLike) -> NDArray[np.uint64]:
    """64 random bits for each element of the broadcast `index` arrays."""
    with np.errstate(over="ignore"):
        state: NDArray[np.uint64] = _mix(np.asarray(seed_of(seed, stream), np.uint64) + _GOLDEN)
        for axis in index:
            state = _mix(state * _GOLDEN + np.asarray(axis).astype(np.uint64) + _GOLDEN)
    return state


def uniform(seed: int, stream: str, *index: ArrayLike, slots: int) -> NDArray[np.float32]:
    """Numbers in [0, 1), float32, shape (*broadcast index shape, slots)."""
    axes = [np.asarray(axis)[..., None] for axis in index]
    words = bits(seed, stream, *axes, np.arange(slots, dtype=np.uint64))
    return (words >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def permutation(seed: int, stream: str, n: int, *index: int) -> IntArray:
    """A random order of range(n), named by `seed`, `stream` and the scalars in `index` (an epoch, say)."""
    return np.argsort(bits(seed, stream, *index, np.arange(n)), kind="stable")


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
