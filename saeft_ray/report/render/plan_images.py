"""The images that a page shows, read from the data set of a sweep."""

import logging

import numpy as np
from numpy.typing import NDArray

from saeft_ray.datasets import Split
from saeft_ray.errors import UserError
from saeft_ray.features.content import Image
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.tuned import split_of
from saeft_ray.report.render.thumbnails import Thumbnails

_log = logging.getLogger(__name__)


def images_of(plan: Plan) -> Thumbnails | None:
    """The images of the selection split and the test sets of `plan`; None where its data is not on this machine."""
    if problems := plan.config.data.problems():
        _log.warning("the page has no pictures, for the images are not here: %s", problems[0])
        return None
    splits: dict[str, Split | None] = {}

    def pixels(image: Image) -> NDArray[np.uint8] | None:
        if image.set not in splits:
            splits[image.set] = _split(plan, image.set)
        return _pixels(splits[image.set], image.index)

    return pixels


def _split(plan: Plan, name: str) -> Split | None:
    try:
        return split_of(plan, name)
    except (UserError, OSError):
        return None


def _pixels(split: Split | None, index: int) -> NDArray[np.uint8] | None:
    if split is None or not 0 <= index < len(split.labels):
        return None
    try:
        found: NDArray[np.uint8] = split.images(np.array([index]))[0].permute(1, 2, 0).contiguous().numpy()
    except (UserError, OSError):
        # One image that cannot be read is said next to the others; it is no reason to have no page.
        return None
    return found
