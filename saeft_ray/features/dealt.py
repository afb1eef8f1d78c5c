"""Movement without meaning: the same change, dealt to other images. What a record shows beyond it is fine-tuning's.

Shapes: N images of one set, d embedding width.
"""

import numpy as np
from numpy.typing import NDArray

from saeft_ray import draws
from saeft_ray.features.activity import unit

Array = NDArray[np.float32]


def dealt(x0: Array, x: Array, seed: int, draw: int = 0) -> Array:
    """(N, d) embeddings: every frozen `x0` turns by the angle, and in the direction, in which another image turned on
    its way to `x`, and has the length of its own tuned embedding.

    How far images move and which way, with any drift of all, stays; which image moved where is lost. Adding another
    image's difference would not do: it leaves the sphere, and back on it every feature would have lost some.
    """
    start, end = unit(x0.astype(np.float64)), unit(x.astype(np.float64))
    order = draws.permutation(seed, "dealt movement", len(x0), draw)
    difference = (end - start)[order]
    tangent = unit(difference - (difference * start).sum(1, keepdims=True) * start)
    cosine = np.clip((start * end).sum(1), -1, 1)[order, None]
    turned = cosine * start + np.sqrt(1 - cosine**2) * tangent
    length = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    given: Array = (turned * length).astype(np.float32)
    return given
