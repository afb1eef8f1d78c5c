"""From the bytes of an image file to pixels, by pure functions of the bytes and the arguments.

Pixels are uint8 (S, S, 3).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from saeft_ray.errors import Corrupt
from saeft_ray.settings import USUAL, Preprocessing

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"})
RENDER_VERSION = 2  # raise it when the same file would give other pixels
TRIES = 10
SLOTS = 4 * TRIES + 1  # random numbers of one view
_ASPECT = (math.log(3 / 4), math.log(4 / 3))
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

Pixels = NDArray[np.uint8]


def whole(data: bytes, name: str, size: int, border: int = 0, preprocessing: Preprocessing = USUAL) -> Pixels:
    """The picture brought to `size` pixels as `preprocessing` says: open_clip's evaluation transform.

    `border` pixels at every edge are cut off before. Raises Corrupt, which names the file `name`.
    """
    with _named(name), Image.open(BytesIO(data)) as stored:
        image = _upright(stored, _orientation(stored))
    cut = image.crop((border, border, image.width - border, image.height - border)) if border else image
    return whole_of(cut, size, preprocessing)


def whole_of(image: Image.Image, size: int, preprocessing: Preprocessing = USUAL) -> Pixels:
    """`whole` of an image at hand, in RGB."""
    width, height = image.size
    resampling = _RESAMPLING[preprocessing.interpolation]
    if preprocessing.resize_mode == "squash":
        return np.asarray(image.resize((size, size), resampling))
    if preprocessing.resize_mode == "longest":
        ratio = max(width, height) / size
        image = image.resize((max(1, round(width / ratio)), max(1, round(height / ratio))), resampling)
        filled = Image.new("RGB", (size, size), (preprocessing.fill_color,) * 3)
        filled.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        return np.asarray(filled)
    short = min(width, height)
    image = image.resize((int(size * width / short), int(size * height / short)), resampling)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def part(
    data: bytes,
    name: str,
    size: int,
    scale: tuple[float, float],
    draw: NDArray[np.float32],
    flip: bool = False,
    preprocessing: Preprocessing = USUAL,
) -> Pixels:
    """A random part of the image, of `scale` of its area and an aspect of 3:4 to 4:3, brought to `size` pixels.

    `draw` are SLOTS numbers in [0, 1), the last of which mirrors half of the views if `flip`. A JPEG is decoded at a
    half, a quarter or an eighth where the part still has `size` pixels then. Raises Corrupt.
    """
    with _named(name), Image.open(BytesIO(data)) as stored:
        orientation = _orientation(stored)
        width, height = stored.size
        turned = orientation >= 5
        box = box_of(*((height, width) if turned else (width, height)), scale, draw[:-1])
        reduced = next(r for r in (8, 4, 2, 1) if r == 1 or min(box[2] - box[0], box[3] - box[1]) >= r * size)
        if reduced > 1:
            stored.draft(None, (width // reduced, height // reduced))  # the mode stays
        shrunk = round(width / stored.width)
        image = _upright(stored, orientation)
    if shrunk > 1:
        left, top = (round(edge / shrunk) for edge in box[:2])
        right, bottom = (round(edge / shrunk) for edge in box[2:])
        box = left, top, min(image.width, right), min(image.height, bottom)
    image = image.crop(box).resize((size, size), _RESAMPLING[preprocessing.interpolation])
    return np.asarray(ImageOps.mirror(image) if flip and draw[-1] < 0.5 else image)


def box_of(width: int, height: int, scale: tuple[float, float], draw: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a random-resized crop, as torchvision chooses it: the first of ten tries that
    fits, else the largest centred part of allowed aspect. `draw` has four numbers in [0, 1) a try."""
    for area, aspect, down, right in draw.reshape(TRIES, 4).astype(float).tolist():
        target = width * height * (scale[0] + area * (scale[1] - scale[0]))
        ratio = math.exp(_ASPECT[0] + aspect * (_ASPECT[1] - _ASPECT[0]))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(right * (width - w + 1)), int(down * (height - h + 1))
            return left, top, left + w, top + h
    w = min(width, round(height * math.exp(_ASPECT[1])))
    h = min(height, round(width / math.exp(_ASPECT[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def check(data: bytes, name: str) -> None:
    """Raises Corrupt for what is visibly no image, without decoding its pixels."""
    with _named(name), Image.open(BytesIO(data)) as image:
        image.verify()


def _upright(stored: Image.Image, orientation: int) -> Image.Image:
    """The picture decoded, upright and in RGB."""
    stored.load()
    image: Image.Image = stored
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image, np.float32) / 257).clip(0, 255).round().astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _orientation(stored: Image.Image) -> int:
    try:
        return int(stored.getexif().get(0x0112, 1))
    except Exception:  # a broken EXIF block does not break the image
        return 1


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turns whatever Pillow's readers raise (they raise many types) into Corrupt."""
    try:
        yield
    except Exception as error:
        why = str(error).partition(" <_io.BytesIO")[0] or type(error).__name__
        raise Corrupt(f"{name}: cannot be read as an image ({why}); repair or remove it") from error
