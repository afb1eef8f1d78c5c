"""Draws digits: ink coverage and a style in, uint8 pictures and what they show out.

Every choice is a named draw of (seed, stream, example, view), and every pixel is elementwise arithmetic, so a picture
does not depend on the batch that it was drawn in.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from saeft_ray import draws
from saeft_ray.datasets.digit_world.styles import GEOMETRIES, GROUNDS, INKS, SIZE, STROKES, TEXTURES, Style
from saeft_ray.draws import IntArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Draw:
    """The random numbers of a batch: one independent stream for every name."""

    seed: int
    stream: str
    example: IntArray  # (B,)
    view: IntArray  # (B,)

    def __call__(self, name: str, slots: int = 1) -> Floats:
        """Numbers in [0, 1), (B, slots)."""
        return draws.uniform(self.seed, f"{self.stream}/{name}", self.example, self.view, slots=slots)

    def one(self, name: str) -> Floats:
        """Numbers in [0, 1), (B,)."""
        return self(name)[:, 0]

    def of(self, chosen: NDArray[np.bool_]) -> "Draw":
        """The same draws for a subset of the batch."""
        return Draw(self.seed, self.stream, self.example[chosen], self.view[chosen])


@dataclass(frozen=True)
class Attributes:
    """The attributes of each picture: indices into the names of `styles`, (B,) each."""

    ink: IntArray
    ground: IntArray
    texture: IntArray
    stroke: IntArray
    geometry: IntArray

    def __getitem__(self, index: IntArray) -> "Attributes":
        return Attributes(*(getattr(self, field.name)[index] for field in fields(self)))


def render(ink: torch.Tensor, labels: IntArray, style: Style, draw: Draw) -> tuple[torch.Tensor, Attributes]:
    """Pictures (B, 3, 28, 28) uint8 of digits whose coverage `ink` is (B, 28, 28) float in [0, 1]."""
    shows = _choose(labels, style, draw)
    coverage = _stroke(_place(ink, shows, style, draw), shows.stroke)
    colour = _jitter(np.array(list(INKS.values()), np.float32)[shows.ink], draw("ink", 3))
    ground = _ground(shows, draw)
    picture = ground * (1 - coverage) + colour * coverage
    picture = _corrupt(picture, style, draw)
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8), shows


def _choose(labels: IntArray, style: Style, draw: Draw) -> Attributes:
    """The attributes of each picture; the cue lets the digit decide the colour pair."""
    pair = (draw.one("pair") * len(style.pairs)).astype(np.int64)
    pair = np.where(draw.one("cue") < style.cue, labels % len(style.pairs), pair)
    colours = np.array(style.pairs, np.int64)[pair]
    geometry = np.where(draw.one("tilted") < style.tilted, GEOMETRIES.index("tilted"), GEOMETRIES.index("upright"))
    geometry = np.where(draw.one("small") < style.small, GEOMETRIES.index("small"), geometry)
    return Attributes(
        ink=colours[:, 0],
        ground=colours[:, 1],
        texture=_weighted(style.textures, draw.one("texture")),
        stroke=_weighted(style.strokes, draw.one("stroke")),
        geometry=geometry.astype(np.int64),
    )


def _weighted(weights: tuple[float, ...], u: Floats) -> IntArray:
    """Indices (B,) drawn with `weights` from the uniform numbers `u` (B,)."""
    edges = np.cumsum(weights) / np.sum(weights)
    return np.searchsorted(edges[:-1], u, side="right").astype(np.int64)


def _place(ink: torch.Tensor, shows: Attributes, style: Style, draw: Draw) -> torch.Tensor:
    """Turns, scales, shears and shifts coverage (B, 28, 28); returns (B, 1, 28, 28)."""
    # Tilt is drawn again, not read from `shows`: a small digit may be tilted too.
    tilted, small = draw.one("tilted") < style.tilted, shows.geometry == GEOMETRIES.index("small")
    u, side = draw.one("angle"), np.where(draw.one("side") < 0.5, -1, 1)
    angle = np.deg2rad(np.where(tilted, side * (20 + 20 * u), (2 * u - 1) * style.rotation))
    u = draw.one("scale")
    scale = np.where(small, 0.55 + 0.15 * u, 0.9 + 0.2 * u)
    shear = (draw.one("shear") - 0.5) * 0.3
    shift = (2 * draw("shift", 2) - 1) * style.shift / (SIZE / 2) / scale[:, None]

    def column(values: NDArray[np.floating]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))[:, None, None]

    cos, sin = column(np.cos(angle) / scale), column(np.sin(angle) / scale)
    axis = (2 * torch.arange(SIZE) + 1) / SIZE - 1
    x, y = axis[None, None, :], axis[None, :, None]
    # By hand and not affine_grid, whose matrix product may round differently in another batch size.
    source = torch.stack(
        [x * cos + y * (column(shear) - sin) + column(shift[:, 0]), x * sin + y * cos + column(shift[:, 1])], dim=-1
    )
    return functional.grid_sample(ink[:, None], source, align_corners=False)


def _stroke(coverage: torch.Tensor, stroke: IntArray) -> torch.Tensor:
    """Thins, thickens or outlines coverage (B, 1, 28, 28) as `stroke` (B,) says."""
    kind = torch.from_numpy(stroke)[:, None, None, None]
    soft = functional.avg_pool2d(functional.pad(coverage, (1, 1, 1, 1)), 3, 1)
    shapes = {
        "thin": ((soft - 0.45) * 3.5 + 0.5).clamp(0, 1),
        "bold": ((soft - 0.25) * 3.5 + 0.5).clamp(0, 1),
        "outlined": (functional.max_pool2d(coverage, 3, 1, 1) - coverage).clamp(0, 1),
    }
    for name, shape in shapes.items():
        coverage = torch.where(kind == STROKES.index(name), shape, coverage)
    return coverage


def _ground(shows: Attributes, draw: Draw) -> torch.Tensor:
    """The textured ground, (B, 3, 28, 28): a blend of the named colour and a lighter or darker one."""
    colour = _jitter(np.array(list(GROUNDS.values()), np.float32)[shows.ground], draw("ground", 3))
    sign = np.where(draw.one("contrast sign") < 0.5, np.float32(-1), np.float32(1))
    contrast = torch.from_numpy(sign * (0.2 + 0.15 * draw.one("contrast")))[:, None, None, None]
    pattern = torch.from_numpy(_texture(shows.texture, draw))[:, None]
    return colour * (1 - pattern) + (colour + contrast).clamp(0, 1) * pattern


def _texture(texture: IntArray, draw: Draw) -> Floats:
    """How much of the second colour each pixel has, (B, 28, 28) in [0, 1] or a little outside (gradients)."""
    pattern = np.zeros((len(texture), SIZE, SIZE), np.float32)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    for kind, name in enumerate(TEXTURES):
        chosen = texture == kind
        if name == "plain" or not chosen.any():
            continue
        part = draw.of(chosen)
        angle = part.one("angle of texture") * np.pi
        along = x * np.cos(angle)[:, None, None] + y * np.sin(angle)[:, None, None]
        period = (4 + 4 * part.one("period"))[:, None, None]
        phase = (8 * part.one("phase"))[:, None, None]
        if name == "gradient":
            pattern[chosen] = along / SIZE
        elif name == "striped":
            pattern[chosen] = (along + phase) / period % 1 < 0.5
        elif name == "checkered":
            cell = period / 1.5
            pattern[chosen] = (np.floor((x + phase) / cell) + np.floor((y + phase) / cell)) % 2
        else:
            pattern[chosen] = part("grain", SIZE * SIZE).reshape(-1, SIZE, SIZE)
    return pattern


def _corrupt(picture: torch.Tensor, style: Style, draw: Draw) -> torch.Tensor:
    """Hides, blurs and speckles the style's shares of pictures (B, 3, 28, 28)."""
    if style.occlusion:
        corner = (SIZE * draw("square", 2)).astype(np.float32)
        far = np.abs(np.arange(SIZE, dtype=np.float32) - corner[:, :, None])  # (B, 2, 28)
        square = (far[:, 0, :, None] < 4) & (far[:, 1, None, :] < 4)
        square &= (draw.one("occlusion") < style.occlusion)[:, None, None]
        picture = picture.masked_fill(torch.from_numpy(square)[:, None], 0.5)
    if style.blur:
        soft = functional.avg_pool2d(functional.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)
        chosen = draw.one("blur") < style.blur
        picture = torch.where(torch.from_numpy(chosen)[:, None, None, None], soft, picture)
    if style.noise:
        chosen = draw.one("noise") < style.noise
        part = draw.of(chosen)
        grain = part("noise grain", 3 * SIZE * SIZE).reshape(-1, 3, SIZE, SIZE) - np.float32(0.5)
        strength = 0.15 + 0.45 * part("noise strength")[:, :, None, None]
        picture[torch.from_numpy(chosen)] += torch.from_numpy((strength * grain).astype(np.float32))
    return picture


def _jitter(colour: Floats, u: Floats) -> torch.Tensor:
    """Colours (B, 3) moved by up to 0.1 per channel, as (B, 3, 1, 1)."""
    return torch.from_numpy(colour + (u - np.float32(0.5)) * np.float32(0.2))[:, :, None, None]
