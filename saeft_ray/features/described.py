"""Every feature of the reading with what each method did to it, its name and its images.

Shapes: S seeds, N images, D dictionary width, W words, F features that are described.
"""

from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeft_ray.features import sharing
from saeft_ray.features.activity import Floats, Ints, Matrix
from saeft_ray.features.comparisons import Comparison
from saeft_ray.features.content import Feature, FeatureChange, Image, Share, Shared
from saeft_ray.features.firings import shares
from saeft_ray.features.frozen import Frozen
from saeft_ray.features.naming import Named

MANY = 2000  # live features up to which those that are too rare to be tested are described too
SHOWN = 300  # most changed features that get images and shared words
STRIP = 8  # images of a kind
_NUMBERS = 1 << 24  # of the shifts of all seeds, features and words


class Stability(NamedTuple):
    """In how many of `of` other SAE seeds each described feature is found, by its direction and by its activations."""

    times: dict[int, tuple[int, int]]
    of: int


def chosen(on0: Ints, live: NDArray[np.bool_]) -> Ints:
    """The features that are described: all that are ever active, or those that are tested if these are very many."""
    active = np.flatnonzero(on0 > 0)
    return active if len(active) <= MANY else np.flatnonzero(live)


def described(
    places: Ints, named: Named, comparisons: list[Comparison], frozen: Frozen, stable: Stability
) -> tuple[Feature, ...]:
    """The features at `places` (F,), in that order; images for the most changed alone."""
    shown = set(most_changed(places, comparisons)[:SHOWN].tolist())
    class_of = named.class_of()
    told = {
        (c.method, c.against): (_shared(c, shown, named, frozen), _other_classes(c, class_of, frozen))
        for c in comparisons
    }
    mass = np.asarray(named.active.sum(0)).reshape(-1)
    born = [(c, c.born(), c.died()) for c in comparisons]
    often = {id(c): (_often(c.fresh), _often(c.gone)) for c in comparisons}
    where = {id(c): _where(c, shown, named.active, frozen) for c in comparisons}
    features = []
    for feature in places.tolist():
        pictured = feature in shown
        changes = []
        for c, new, lost in born:
            shared, other = told[c.method, c.against]
            fresh, gone = often[id(c)] if pictured else (None, None)
            of_classes, of_sets = where[id(c)]
            changes.append(
                FeatureChange(
                    method=c.method,
                    against=c.against,
                    effect=c.tested.effect(feature),
                    gain=_finite(c.gain[feature]),
                    born=float(new[feature]),
                    died=float(lost[feature]),
                    other_classes=_finite(other[feature]),
                    shared=shared.get(feature),
                    born_images=_strip(fresh, c, feature, frozen),
                    died_images=_strip(gone, c, feature, frozen),
                    new_classes=of_classes.get(feature, ()),
                    new_sets=of_sets.get(feature, ()),
                )
            )
        found, found_active = stable.times.get(feature, (None, None)) if stable.of else (None, None)
        features.append(
            Feature(
                index=feature,
                live=float(named.on0[feature] / max(1, frozen.count)),
                mass=float(mass[feature]),
                name=named.name(feature),
                words=named.words(feature),
                found=found,
                found_active=found_active,
                of=stable.of or None,
                strongest=frozen.strongest(named.active, feature, STRIP) if pictured else (),
                spread=frozen.spread(named.active, feature, STRIP) if pictured else (),
                changes=tuple(changes),
            )
        )
    return tuple(features)


def most_changed(places: Ints, comparisons: list[Comparison]) -> Ints:
    """The features at `places` (F,), those that grew or shrank before all others, then by the size of their effect."""
    size = np.zeros(len(places))
    for c in comparisons:
        sure = np.array([c.tested.verdict(int(f)) in ("grew", "shrank") for f in places], bool)
        size = np.maximum(size, np.abs(c.tested.mean[places]) + 1000 * sure)
    return places[np.argsort(-size, kind="stable")]


def _where(
    c: Comparison, shown: set[int], active: Matrix, frozen: Frozen
) -> tuple[dict[int, tuple[Share, ...]], dict[int, tuple[Share, ...]]]:
    """The classes and the sets of the newly active images of each shown feature."""
    places = np.array(sorted(shown), np.int64)
    fresh, before = _sum(c.fresh)[:, places], active[:, places]
    classes, sets = (
        {int(places[i]): found for i, found in shares(fresh, before, member, labels).items()}
        for member, labels in ((frozen.of_class, frozen.classes), (frozen.of_set, frozen.names))
    )
    return classes, sets


def _often(trials: list[Matrix]) -> Matrix:
    """(N, D) in how many seeds; only where in at least half of them."""
    found = _sum(trials)
    found.data[2 * found.data < len(trials)] = 0
    found.eliminate_zeros()
    return found


def _strip(often: Matrix | None, comparison: Comparison, feature: int, frozen: Frozen) -> tuple[Image, ...]:
    """The images of a column of `often`, strongest first."""
    if often is None:
        return ()
    rows = often.indices[often.indptr[feature] : often.indptr[feature + 1]]
    strength = comparison.strength[:, [feature]].toarray().reshape(-1)[rows]
    return frozen.images(rows[np.argsort(-strength, kind="stable")][:STRIP])


def _other_classes(c: Comparison, class_of: Ints, frozen: Frozen) -> Floats:
    """(D,) share of the newly active images that are not of the class that a feature is named after; NaN where there is
    no such class or no such image."""
    named = np.flatnonzero(class_of >= 0)
    found = np.full(len(class_of), np.nan)
    fresh = _sum(c.fresh)[:, named]
    total = np.asarray(fresh.sum(0)).reshape(-1)
    own = np.array(
        [fresh[:, [i]].toarray().reshape(-1)[frozen.labels == class_of[f]].sum() for i, f in enumerate(named)]
    )
    some = total > 0
    found[named[some]] = 1 - own[some] / total[some]
    return found


def _shared(c: Comparison, shown: set[int], named: Named, frozen: Frozen) -> dict[int, Shared]:
    """What the newly active images share beyond the control, where a test over seeds finds it."""
    bank, seeds = named.bank, len(c.fresh)
    room = _NUMBERS // max(1, seeds * len(bank.words))
    places = np.array([f for f in sorted(shown) if c.tested.live[f]][:room], np.int64)
    if seeds < 2 or not c.dealt or not bank.words or not len(places):
        return {}
    cells = frozen.labels * len(frozen.names) + frozen.sets

    def shifts(trials: list[Matrix]) -> Floats:
        return np.stack([sharing.shared(frozen.x, m[:, places], cells, bank.embeddings).shift for m in trials])

    found = sharing.beyond(shifts(c.fresh), shifts(c.dealt), np.arange(len(places)))
    return {
        int(place): Shared(
            word=bank.labels[found.word[i]],
            shift=float(found.shift[i, found.word[i]]),
            q=float(found.q[i]),
            agree=float(found.agree[i]),
        )
        for i, place in enumerate(places)
        if found.q[i] <= c.tested.alpha
    }


def _sum(trials: list[Matrix]) -> Matrix:
    return reduce(add, trials).tocsc()


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
