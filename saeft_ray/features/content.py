"""What changed as data: every number, name and image that the report's section and its own page show.

Shapes: D features of a dictionary, N images of the pooled sets.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

FROZEN = "frozen"
Verdict = Literal["grew", "shrank", "not found", "not tested"]


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image of a split: its set and its place there."""

    set: str
    index: int


@dataclass(frozen=True, kw_only=True)
class Name:
    """A word for a feature: `score` is the F1 of the word's text as a classifier of the feature's active images, `p`
    how often a direction without meaning fits its best word as well, `p_score` how often as many images without meaning
    reach the score (None for a user's label, whose `p` is of the score)."""

    word: str
    score: float
    p: float
    p_score: float | None = None


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The word that newly active images are more like than others of their class and set, in standard deviations
    beyond the control, and the share of seeds where it is the first too."""

    word: str
    shift: float
    q: float
    agree: float


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Mean over paired seeds of log2((mass + c) / (mass0 + c)), with its interval; `p` and `q` are None where nothing
    could be tested. `control`: the same mean when the movement is dealt to other images; `beyond_q`: of the difference
    from it."""

    mean: float
    lo: float | None
    hi: float | None
    p: float | None
    q: float | None
    verdict: Verdict
    control: float | None
    beyond_q: float | None


@dataclass(frozen=True, kw_only=True)
class Share:
    """A class or a set: its share of the newly active images of a feature, and of those where it was active before."""

    label: str
    new: float
    old: float


@dataclass(frozen=True, kw_only=True)
class FeatureChange:
    """One feature under one method. `against` is "frozen" or the baseline method. `gain`: the share that images with
    the feature gained or lost apart from drift. `born`, `died`: mean number of images on which it fires and
    does not in what it is compared with, or the reverse; `other_classes`: share of the newly active that is not of the
    class that the feature is named after. `new_classes`, `new_sets`: where most of the newly active images are, of the
    most changed features alone."""

    method: str
    against: str
    effect: Effect
    gain: float | None
    born: float
    died: float
    other_classes: float | None
    shared: Shared | None
    born_images: tuple[Image, ...]
    died_images: tuple[Image, ...]
    new_classes: tuple[Share, ...] = ()
    new_sets: tuple[Share, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One live feature of the dictionary that the record is read through. `live`: share of images where it is active
    in the frozen model. `words`: the best words with their scores, also where none is good enough to be its `name`.
    `found`: how many of `of` other SAE seeds have a feature of the same direction; `found_active`: of the same
    activations on the same images."""

    index: int
    live: float
    mass: float
    name: Name | None
    words: tuple[tuple[str, float], ...]
    found: int | None
    of: int | None
    found_active: int | None = None
    strongest: tuple[Image, ...]
    spread: tuple[Image, ...]
    changes: tuple[FeatureChange, ...]


@dataclass(frozen=True, kw_only=True)
class Movement:
    """How much a method changed, in the eyes of one dictionary, as means over seeds. `seen`: share of the change that
    the dictionary reconstructs (below 0: its codes add error); `drift`: share that is common to all images; `fvu0`,
    `fvu`: variance unexplained before and after. `added`, `strengthened`, `weakened`, `removed`: shares of the frozen
    mass. `beyond`: tested features whose change goes beyond the control."""

    method: str
    seeds: int
    moved: float
    seen: float | None
    drift: float | None
    fvu0: float | None
    fvu: float | None
    added: float
    strengthened: float
    weakened: float
    removed: float
    grew: int
    shrank: int
    beyond: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The record read through one dictionary. `kind`: trained, random, pca, neurons, or imported."""

    kind: str
    width: int
    live: int
    tested: int
    named: int | None
    movements: tuple[Movement, ...]


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """How much more a method's class features newly fire on what one word says, beyond the control: mean over seeds
    with its interval, and the class and word where most of it is."""

    method: str
    value: float
    lo: float | None
    hi: float | None
    candidates: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Linear CKA, mean over seeds. `against`: "frozen" or a method. `site`: "embedding", "block i" (its class token) or
    "block i, mean token"."""

    method: str
    against: str
    dataset: str
    site: str
    biased: float | None
    unbiased: float | None


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """Figure 2: the feature of one kind of dictionary that fits a word best, its strongest images, images spread over
    all it fires on, and the score of the word."""

    kind: str
    word: str
    index: int
    score: float
    strongest: tuple[Image, ...]
    spread: tuple[Image, ...]


@dataclass(frozen=True, kw_only=True)
class Replication:
    """Correlation of a method's effects with those of the partners in SAEs of other seeds, over pairs that are the
    `same` feature and over pairs that are not (`apart`); None for too few pairs."""

    method: str
    same: int
    same_r: float | None
    apart: int
    apart_r: float | None


@dataclass(frozen=True, kw_only=True)
class WhatChanged:
    """Everything that is shown of what fine-tuning added and removed. `sentences` come first on the page; `missing`
    says what could not be computed, and why. `scope`: what was asked for where that is not all. `images`: how many all
    sets have. `readings[0]` is of the dictionary whose features are in `features`.
    `firings` is the Arrow table of the features by set and class, which has a file of its own."""

    sweep: str
    alpha: float
    least: float
    baseline: str | None
    sets: tuple[str, ...]
    sentences: tuple[str, ...]
    readings: tuple[Reading, ...]
    features: tuple[Feature, ...]
    shortcuts: tuple[Shortcut, ...]
    similarities: tuple[Similarity, ...]
    specimens: tuple[Specimen, ...]
    missing: tuple[str, ...]
    replications: tuple[Replication, ...] = ()
    scope: str = ""
    images: int | None = None
    firings: Any = field(default=None, compare=False, repr=False)

    @cached_property
    def twice(self) -> set[str]:
        """Names that more than one feature has."""
        return named_twice(self.features)


def named_twice(features: Sequence[Feature]) -> set[str]:
    """Names that more than one of `features` has."""
    times = Counter(feature.name.word for feature in features if feature.name)
    return {word for word, count in times.items() if count > 1}
