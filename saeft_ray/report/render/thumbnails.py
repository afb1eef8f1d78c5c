"""Strips of thumbnails inside a page, as data URIs, within a budget of bytes."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from saeft_ray.features.content import Image

Thumbnails: TypeAlias = Callable[[Image], NDArray[np.uint8] | None]
"""Gives the pixels (H, W, 3) of an image, or None where it is gone."""

WIDEST = 8
TALLEST = 64
_GAP = 1


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Up to 8 pictures side by side. `uri` is None where none is left; `left_out`: the budget was spent."""

    uri: str | None
    width: int
    height: int
    shown: int
    gone: int
    left_out: bool


class Album:
    """Makes strips until `budget` bytes of data URIs are spent; after that, only strips without pictures.

    Once one strip does not fit, no later one is made: a page gives its pictures to what it shows first.
    """

    def __init__(self, thumbnails: Thumbnails | None, budget: int) -> None:
        self._thumbnails, self._left, self._full = thumbnails, budget, False
        self._made: dict[tuple[Image, ...], Strip] = {}

    @property
    def full(self) -> bool:
        """Whether a strip was left out."""
        return self._full

    def strip(self, images: tuple[Image, ...]) -> Strip:
        """The strip of the first 8 of `images`; the same images give the same strip."""
        images = images[:WIDEST]
        if images not in self._made:
            self._made[images] = self._new(images)
        strip = self._made[images]
        # A page holds a strip as often as it shows it.
        size = len(strip.uri or "")
        self._full = self._full or size > self._left
        if size and self._full:
            return Strip(uri=None, width=0, height=0, shown=0, gone=0, left_out=True)
        self._left -= size
        return strip

    def _new(self, images: tuple[Image, ...]) -> Strip:
        if self._full or not images:
            return Strip(uri=None, width=0, height=0, shown=0, gone=0, left_out=self._full)
        found = [self._thumbnails(image) for image in images] if self._thumbnails else [None] * len(images)
        pictures = [pixels for pixels in found if pixels is not None]
        gone = len(found) - len(pictures)
        if not pictures:
            return Strip(uri=None, width=0, height=0, shown=0, gone=gone, left_out=False)
        strip = side_by_side(pictures)
        # A picture of 28 pixels is shown twice as large, with its pixels to be seen.
        zoom = max(1, TALLEST // strip.height)
        return Strip(
            uri=_uri(strip), width=zoom * strip.width, height=zoom * strip.height, shown=len(pictures), gone=gone,
            left_out=False,
        )  # fmt: skip


def side_by_side(pixels: Sequence[NDArray[np.uint8]]) -> Picture.Image:
    """Small copies of pictures (H, W, 3) in a row, a transparent line between two."""
    pictures = [_small(each) for each in pixels]
    height = max(picture.height for picture in pictures)
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    strip = Picture.new("RGBA", (width, height))
    at = 0
    for picture in pictures:
        strip.paste(picture, (at, 0))
        at += picture.width + _GAP
    return strip


def _small(pixels: NDArray[np.uint8]) -> Picture.Image:
    picture = Picture.fromarray(np.ascontiguousarray(pixels, np.uint8), "RGB")
    picture.thumbnail((2 * TALLEST, TALLEST), Picture.Resampling.LANCZOS)
    return picture


def _uri(strip: Picture.Image) -> str:
    out = io.BytesIO()
    strip.save(out, "WEBP", quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
