"""The strongest shortcut candidates in pictures: what a class feature fires on before, and what it newly fires on."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from saeft_ray.features.content import FROZEN, Feature, FeatureChange, Image, WhatChanged
from saeft_ray.report.numbers import percent
from saeft_ray.report.render.feature_cards import count_of, share
from saeft_ray.report.render.plots import Plot, plain, style, to_svg
from saeft_ray.report.render.thumbnails import Thumbnails, side_by_side

_ROWS, _IMAGES, _LETTERS = 3, 7, 24
NAME = "shortcuts"


class Candidate(NamedTuple):
    """A class feature and its change under the method; its newly active images share a word."""

    word: str
    feature: Feature
    change: FeatureChange


def candidates(what: WhatChanged) -> list[Candidate]:
    """Of the method with the largest shortcut value, the features of its candidates whose newly active images surely
    share the candidate's word; the strongest first."""
    if not what.shortcuts:
        return []
    first = max(what.shortcuts, key=lambda s: s.value)
    found = []
    for class_, word, _ in first.candidates:
        fits = [
            Candidate(class_, feature, change)
            for feature in what.features
            for change in feature.changes
            if feature.name is not None and feature.name.word == class_ and change.method == first.method
            and change.against == FROZEN and change.shared is not None and change.shared.word == word
            and feature.strongest and change.born_images
        ]  # fmt: skip
        found += sorted(fits, key=lambda c: -c.change.born)[:1]
    return found[:_ROWS]


def draw(what: WhatChanged, thumbnails: Thumbnails | None) -> Plot | None:
    """A row per candidate; None where there is no candidate, or an image of none is at hand."""
    rows = [(c, _pixels(c.feature.strongest, thumbnails), _pixels(c.change.born_images, thumbnails))
            for c in candidates(what)]  # fmt: skip
    rows = [row for row in rows if row[1] and row[2]]
    if not rows:
        return None
    with style(NAME):
        figure = Figure(figsize=(7.2, 0.95 * len(rows)))
        axes = figure.subplots(len(rows), 2, squeeze=False)
        for (left, right), (candidate, before, after) in zip(axes, rows, strict=True):
            _strip(left, before, f"“{_short(candidate.word)}” before: strongest images", _where(candidate.feature))
            _strip(right, after, f"after {_short(candidate.change.method)}: newly fires on", said(candidate))
        spoken = "; ".join(f"{c.word} under {c.change.method}, {said(c)}" for c, _, _ in rows)
        return to_svg(figure, NAME, f"What class features newly fire on: {spoken}")


def said(candidate: Candidate) -> str:
    """How many images a seed, how many of other classes, and what they share."""
    change, shared = candidate.change, candidate.change.shared
    other = "" if change.other_classes is None else f", {percent(change.other_classes, 0)} % of other classes"
    return f"{count_of(change.born)} per seed{other}" + (f"; like “{_short(shared.word)}”" if shared else "")


def _short(word: str) -> str:
    # Longer ones would leave no room for the images.
    return word if len(word) <= _LETTERS else f"{word[: _LETTERS - 1]}…"


def _where(feature: Feature) -> str:
    return f"feature {feature.index}, active on {share(feature.live)} of the images"


def _pixels(images: tuple[Image, ...], thumbnails: Thumbnails | None) -> list[NDArray[np.uint8]]:
    found = [thumbnails(image) for image in images[:_IMAGES]] if thumbnails else []
    return [pixels for pixels in found if pixels is not None]


def _strip(axes: Axes, pixels: list[NDArray[np.uint8]], title: str, note: str) -> None:
    # The pixels themselves go into the file, not a copy at the size of the figure.
    axes.imshow(np.asarray(side_by_side(pixels)), interpolation="none")
    axes.set_title(plain(title), fontsize=9, loc="left")
    axes.set_xlabel(plain(note), fontsize=8, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_anchor("NW")
