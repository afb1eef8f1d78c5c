"""From the bytes of an image file to pixels, by pure functions of the bytes and the arguments.

Pixels are uint8 (S, S, 3).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from saeft_ray.errors import Corrupt
from saeft_ray.settings import USUAL, Preprocessing

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".dib", ".ppm", ".pgm"}
    | {".pbm", ".pnm", ".tif", ".tiff", ".jp2", ".j2k", ".jpx", ".tga", ".pcx", ".qoi", ".sgi", ".dds", ".psd", ".ico"}
)
UNREADABLE = frozenset(
    {".heic", ".heif", ".hif", ".jxl", ".jxr", ".svg", ".eps", ".exr", ".hdr", ".dcm", ".dng", ".raw", ".cr2", ".cr3"}
    | {".nef", ".arw", ".orf", ".rw2", ".raf"}
)
"""Pictures of types that Pillow does not read."""
# By the names of Pillow, whose reader of PostScript would start a program on what the file says.
_FORMATS = frozenset(
    {"JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "PPM", "TIFF", "JPEG2000", "TGA", "PCX", "QOI", "SGI"}
    | {"DDS", "PSD", "ICO"}
)
_LOSSY = frozenset({"JPEG", "MPO", "WEBP", "AVIF"})
RENDER_VERSION = 2  # raise it when the same file would give other pixels
TRIES = 10
SLOTS = 4 * TRIES + 1  # random numbers of one view
_DARK = 8192  # of 65,536 levels: a picture without a brighter pixel was stored with fewer bits than its file says
_UNSEEN = 3  # levels of 255 by which colours may differ without being seen
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
    with _named(name), _open(data) as stored:
        deep = _is_deep(stored)
        image = _upright(stored, _orientation(stored), deep)
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
    with _named(name), _open(data) as stored:
        deep, orientation = _is_deep(stored), _orientation(stored)
        width, height = stored.size
        turned = orientation >= 5
        box = box_of(*((height, width) if turned else (width, height)), scale, draw[:-1])
        reduced = next(r for r in (8, 4, 2, 1) if r == 1 or min(box[2] - box[0], box[3] - box[1]) >= r * size)
        if reduced > 1:
            stored.draft(None, (width // reduced, height // reduced))  # the mode stays
        shrunk = round(width / stored.width)
        image = _upright(stored, orientation, deep)
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
    with _named(name), _open(data) as image:
        _check_range(image)
        image.verify()


def _open(data: bytes) -> Image.Image:
    """The picture, not decoded yet, if it is of one of the allowed types, whatever its file is called."""
    return Image.open(BytesIO(data), formats=_formats())


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Those of the allowed types that this Pillow reads, in its order."""
    Image.init()
    return tuple(name for name in Image.ID if name in _FORMATS)


def _upright(stored: Image.Image, orientation: int, deep: bool) -> Image.Image:
    """The picture decoded, upright and in RGB. Raises ValueError for pixels that would come out black."""
    _check_range(stored)
    stored.load()
    image: Image.Image = stored
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would cut off at 255
        grey = np.asarray(image, np.float32)
        _check_bright(float(grey.max()))
        image = Image.fromarray((grey / 257).clip(0, 255).round().astype(np.uint8))
    elif deep and image.mode in ("RGB", "RGBA"):
        _check_bright(256 * max(_extremes(band)[1] for band in image.split()[:3]) + 255)
    if image.mode in ("P", "PA") and (image.mode == "PA" or "transparency" in image.info):
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA"):
        _check_opaque(image)
    image = image.convert("RGB")
    if stored.format not in _LOSSY:
        _check_levels(image)
    return image


def _is_deep(stored: Image.Image) -> bool:
    """Whether colours have 16 bits, of which Pillow keeps the upper half; known only before anything is decoded."""
    for _, _, _, how in getattr(stored, "tile", ()):
        if ";16" in str(how) or (stored.format == "PPM" and isinstance(how, tuple) and how[1] > 255):
            return True
    return False


def _check_range(stored: Image.Image) -> None:
    """Raises ValueError for numbers of which the file does not say what is black and what is white."""
    if stored.mode == "F" or (stored.mode == "I" and stored.format not in ("PPM", "PNG")):
        kind = "floating-point" if stored.mode == "F" else "32-bit or signed"
        raise ValueError(f"its {kind} pixels have no known range; save it with 8 or 16 bits")


def _check_bright(brightest: float) -> None:
    if 0 < brightest < _DARK:
        raise ValueError(
            f"no 16-bit pixel is brighter than {brightest:.0f} of 65535, so it would be black; save it with 8 bits, "
            "or scaled to all 16"
        )


def _check_opaque(image: Image.Image) -> None:
    """Raises ValueError for a picture that is drawn in its transparency alone: one colour without it, or nearly."""
    *colours, alpha = (_extremes(band) for band in image.split())
    if alpha[0] != alpha[1] and all(high - low <= _UNSEEN for low, high in colours):
        raise ValueError("only its transparency differs from pixel to pixel; put it onto a background")


def _check_levels(image: Image.Image) -> None:
    """Raises ValueError for a picture of the values 0 and 1 alone. A dark photograph may be so too, but it is stored by
    its camera as a JPEG, which is let through."""
    if _extremes(image) == (0, 1):
        raise ValueError("its pixels are 0 or 1 of 255, so it would be black; save it scaled to 0 and 255, or as 1 bit")


def _extremes(band: Image.Image) -> tuple[float, float]:
    pixels = np.asarray(band)
    return float(pixels.min()), float(pixels.max())


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
