"""Pictures: modes, depths, formats, profiles, turned, cut and with bits that are not theirs."""

import random
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.fuzz.input import Input, wrong_if
from saeft_ray.datasets.images import decode

_MODES = {
    "1": ("PNG", "TIFF", "BMP"),
    "L": ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"),
    "LA": ("PNG",),
    "P": ("PNG", "GIF", "BMP"),
    "RGB": ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM"),
    "RGBA": ("PNG", "TIFF", "WEBP"),
    "CMYK": ("JPEG", "TIFF"),
    "YCbCr": ("JPEG",),
    "I;16": ("PNG", "TIFF"),
    "I": ("TIFF",),
    "F": ("TIFF",),
}
_SIZE = 32


def make(draw: random.Random, folder: Path) -> Input:
    mode = draw.choice(list(_MODES))
    form = draw.choice(_MODES[mode])
    width, height = draw.choice(((1, 1), (3, 200), (64, 64), (500, 250), (40, 33), (2, 2)))
    level = draw.uniform(0.2, 1.0)
    data = _encoded(draw, mode, form, width, height, level)
    damage = draw.choice(("none", "none", "cut", "flip", "empty", "text", "zeros"))
    if damage == "cut":
        data = data[: draw.randrange(len(data))]
    elif damage == "flip":
        hurt = bytearray(data)
        for _ in range(draw.randint(1, 8)):
            hurt[draw.randrange(len(hurt))] ^= 1 << draw.randrange(8)
        data = bytes(hurt)
    elif damage in ("empty", "text", "zeros"):
        data = {"empty": b"", "text": b"<html>404</html>", "zeros": bytes(len(data))}[damage]

    def check(pixels: np.ndarray) -> None:
        wrong_if(pixels.shape != (_SIZE, _SIZE, 3) or pixels.dtype != np.uint8, f"{pixels.shape} {pixels.dtype}")
        wrong_if(damage == "none" and float(pixels.mean()) < 8, f"black: {pixels.mean():.1f} of a level {level:.2f}")
        wrong_if(damage in ("empty", "text", "zeros"), "a picture of what holds none")

    plain = mode in ("L", "RGB", "RGBA", "P", "CMYK", "YCbCr", "LA", "1")
    about = f"{mode} {form} {width}x{height} {damage}"
    return Input(about, lambda: decode.whole(data, "a/b.img", _SIZE), check, damage == "none" and plain)


def _encoded(draw: random.Random, mode: str, form: str, width: int, height: int, level: float) -> bytes:
    """A picture of one brightness with a gradient, in `mode`."""
    ramp = np.linspace(0.5, 1, width)[None, :] * np.ones((height, 1)) * level
    if mode == "F":
        scale = draw.choice((1.0, 255.0))
        image = Image.fromarray((ramp * scale).astype(np.float32))
    elif mode == "I":
        image = Image.fromarray((ramp * draw.choice((255, 65535))).astype(np.int32))
    elif mode == "I;16":
        image = Image.fromarray((ramp * draw.choice((4095, 65535))).astype(np.uint16))
    else:
        image = Image.fromarray((ramp * 255).astype(np.uint8)).convert("RGB").convert(mode)
        if mode == "1":
            image = Image.new("1", (width, height), 1)
        if mode == "CMYK":
            image = Image.fromarray((ramp * 255).astype(np.uint8)).convert("RGB").convert("CMYK")
    extra: dict[str, object] = {}
    if form in ("JPEG", "PNG", "WEBP", "TIFF") and mode in ("RGB", "L") and draw.random() < 0.4:
        exif = Image.Exif()
        exif[0x0112] = draw.choice((0, 1, 3, 6, 8, 9, 77))
        extra["exif"] = exif
    out = BytesIO()
    image.save(out, form, **extra)
    return out.getvalue()
