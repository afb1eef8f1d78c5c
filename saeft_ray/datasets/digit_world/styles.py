"""The looks of a digit: the palette, the words for it, and the styles of the splits. No torch."""

from dataclasses import dataclass, replace

RENDER_VERSION = 1  # raise it with every change that alters a pixel or a split: the data's fingerprint holds it
SIZE = 28  # pixels
SELECTION_RENDERINGS = 2
ADVERSARIAL_RENDERINGS = 3
# A's size is fixed, not "all that ridge gets wrong", so that a plan knows it without rendering.
ADVERSARIAL = 800

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Light inks on dark grounds only: with both polarities a model of this size learns colours and never reaches shapes.
INKS = {
    "white": (0.95, 0.95, 0.95),
    "yellow": (0.95, 0.90, 0.15),
    "cyan": (0.20, 0.90, 0.95),
    "orange": (1.00, 0.60, 0.20),
    "pink": (1.00, 0.60, 0.80),
    "lime": (0.50, 0.95, 0.30),
}
GROUNDS = {
    "black": (0.05, 0.05, 0.05),
    "navy": (0.08, 0.10, 0.55),
    "maroon": (0.50, 0.05, 0.10),
    "forest": (0.05, 0.35, 0.10),
    "purple": (0.38, 0.10, 0.50),
    "brown": (0.40, 0.25, 0.10),
}
TEXTURES = ("plain", "gradient", "striped", "checkered", "noisy")
STROKES = ("normal", "thin", "bold", "outlined")
GEOMETRIES = ("upright", "tilted", "small")

Pair = tuple[int, int]  # (ink, ground), indices into INKS and GROUNDS

HELD_OUT_PAIRS: tuple[Pair, ...] = tuple((ink, (3 - ink) % 6) for ink in range(6))
PRETRAIN_PAIRS: tuple[Pair, ...] = tuple(
    (ink, ground) for ink in range(6) for ground in range(6) if (ink, ground) not in HELD_OUT_PAIRS
)
WHITE_PAIRS: tuple[Pair, ...] = tuple(pair for pair in PRETRAIN_PAIRS if pair[0] == 0)


@dataclass(frozen=True)
class Style:
    """A distribution over renderings; weights need not sum to 1, shares are probabilities."""

    pairs: tuple[Pair, ...]
    textures: tuple[float, ...] = (1, 0, 0, 0, 0)  # weights of TEXTURES
    strokes: tuple[float, ...] = (1, 0, 0, 0)  # weights of STROKES
    rotation: float = 8.0  # largest angle of an upright digit, degrees
    shift: float = 1.5  # largest shift along each axis, pixels
    tilted: float = 0.0  # share turned by 20 to 40 degrees
    small: float = 0.0  # share at 55 to 70 % of the size
    noise: float = 0.0  # share under pixel noise
    blur: float = 0.0  # share blurred
    occlusion: float = 0.0  # share with a grey square on top
    cue: float = 0.0  # share whose ground is set by the digit: the spurious cue


BROAD = Style(PRETRAIN_PAIRS, textures=(3, 1, 1, 1, 1), strokes=(4, 1, 1, 1), noise=0.2, blur=0.15)
NARROW = Style(WHITE_PAIRS)

SHIFTS: dict[str, Style] = {
    "V2": replace(NARROW, rotation=14, shift=2.5, strokes=(3, 1, 1, 0), blur=0.2),
    "R": Style(HELD_OUT_PAIRS, textures=(0, 1, 1, 1, 1), strokes=(2, 1, 1, 0)),
    "Sketch": replace(NARROW, strokes=(0, 0, 0, 1)),
    "ON": Style(PRETRAIN_PAIRS, tilted=0.5, small=0.5, shift=3),
    "C": replace(NARROW, noise=1.0, blur=0.5, occlusion=0.5),
    "UCI": NARROW,
    "A": NARROW,
}


DIAGNOSTIC = "ID0"  # ID's own pictures with a cue of 0: fine-tuning that learned digits, and not grounds, keeps them


def style_of(split: str, cue: float) -> Style:
    """The style of a split. The cue holds wherever fine-tuning's habits are rewarded, and in V2 (fresh data of the same
    habit); the other shifts break it."""
    if split in ("train", "selection", "ID"):
        return replace(NARROW, cue=cue)
    if split == DIAGNOSTIC:
        return NARROW
    return replace(SHIFTS[split], cue=cue) if split == "V2" else SHIFTS[split]
