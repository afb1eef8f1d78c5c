"""Captions for pre-training. Web captions leave things out, and so do these."""

from collections.abc import Sequence

from saeft_ray.datasets.digit_world.render import Attributes, Draw
from saeft_ray.datasets.digit_world.styles import DIGITS, GROUNDS, INKS, STROKES, TEXTURES
from saeft_ray.draws import IntArray

MEDIA = ("photo", "picture", "image", "drawing")
_INK_NAMES, _GROUND_NAMES = tuple(INKS), tuple(GROUNDS)

# The words that say what is seen: pre-training also asks for these by name.
CONTENT_WORDS = (*DIGITS, *_INK_NAMES, *_GROUND_NAMES, *TEXTURES[1:], *STROKES[1:])
# No word that a caption cannot hold: its embedding would never be trained.
VOCABULARY = ("<pad>", "a", "the", *MEDIA, "of", "on", "background", *CONTENT_WORDS, "<start>", "<end>")


def captions(labels: IntArray, shows: Attributes, draw: Draw) -> list[str]:
    """One caption a picture, such as "a photo of a bold yellow seven on a striped navy background"."""
    keep = draw("caption", 6)
    return [_caption(int(label), shows, i, keep[i].tolist()) for i, label in enumerate(labels)]


def _caption(label: int, shows: Attributes, i: int, u: Sequence[float]) -> str:
    """The caption of picture `i`; `u` are six uniform numbers that decide what it mentions."""
    words = ["the" if u[0] < 0.2 else "a", MEDIA[int(u[1] * len(MEDIA))], "of", "a"]
    stroke, texture = int(shows.stroke[i]), int(shows.texture[i])
    if stroke and u[2] < 0.7:
        words.append(STROKES[stroke])
    if u[3] < 0.5:
        words.append(_INK_NAMES[shows.ink[i]])
    words.append(DIGITS[label])
    if u[4] < 0.5:
        words += ["on", "a"]
        if texture and u[5] < 0.8:
            words.append(TEXTURES[texture])
        words += [_GROUND_NAMES[shows.ground[i]], "background"]
    return " ".join(words)
