"""What a sweep noted of a cue in its training images: `features/cue.py` finds it, plans and reports tell it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeft_ray.records.rows import unpack

FILE, KEY = "cue.json", "cue"
LIKELY = 0.4
"""Half of what digit world has with its cue, .79. There V is the share of images in which the ground tells the label:
.00, .20, .37, .59, .79 and .99 at shares of 0, .2, .4, .6, .8 and 1. So it is reached at about .4."""


class Cue(NamedTuple):
    """Cramér's V between `groups` groups of `images` training images and their labels; and which of the `n` images of
    the selection split, in the order `examples`, are `against` it: not in the commonest group of their class."""

    v: float
    groups: int
    images: int
    examples: str
    n: int
    against: str  # one bit an image, packed as in the rows, in hex digits

    @property
    def minority(self) -> NDArray[np.bool_]:
        """The images of the selection split that go against the cue, (n,)."""
        return unpack(bytes.fromhex(self.against), self.n)

    @property
    def likely(self) -> bool:
        """Whether a cue is likely."""
        return self.v >= LIKELY

    def __str__(self) -> str:
        return in_words(self.v, self.groups, self.images)


def in_words(v: float, groups: int, images: int) -> str:
    """What such an association says, as a sentence or two."""
    measured = (
        f"{groups} groups of {images:,} training images, found by what the classes do not need, have a Cramér's V of "
        f"{v:.2f} with the label"
    )
    if v < LIKELY:
        return f"{measured}: no feature that the classes do not need tells it (from {LIKELY:g} on one is likely to)."
    return (
        f"{measured}: a feature that the classes do not need tells it. Fine-tuning can learn that feature in place of "
        "the class, and then gains on images like these and loses where it does not hold."
    )
