"""Do the changes of features that other SAE seeds have, too, replicate there?

Shapes: F features of the reading, D' dictionary width of another seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from saeft_ray.features import stability, testing
from saeft_ray.features.activity import Floats, Ints
from saeft_ray.features.change import effect, mass
from saeft_ray.features.compute import codes_of
from saeft_ray.features.content import Replication
from saeft_ray.features.readers import dictionary_of, reader
from saeft_ray.features.recording import device_of, or_sentence
from saeft_ray.orchestration import artifacts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store

APART = 0.5  # cosine below which a partner is another feature; in between the two it may be either
_FEWEST = 8  # pairs of which a correlation is told


class Partners(NamedTuple):
    """What another SAE seed says of the features: the `likeness` (F,) of each to its partner there, -1 for none, and
    the partner's effect by method (F,), NaN for none."""

    likeness: Floats
    effects: dict[str, Floats]


@dataclass(frozen=True)
class Replicate:
    """The partners of the `features` (F,) in the SAE of another seed, and what `trials` did to them."""

    plan: Plan
    store: Store
    features: Ints
    trials: tuple[TrialSpec, ...]

    @or_sentence
    def __call__(self, number: int) -> Partners:
        device = device_of(self.plan)
        own = dictionary_of(reader(self.plan, "trained"), self.plan, self.store, torch.device("cpu"))
        other = artifacts.dictionary(self.plan.dictionary("trained", number), self.plan, self.store, device)
        frozen = codes_of(other, self.plan, self.store, None, device)
        often = np.bincount(frozen.entries()[1], minlength=frozen.width)
        live, there = testing.live(often.astype(float), len(frozen.index)), np.flatnonzero(often)
        match = stability.match(own.atoms.numpy()[self.features], other.atoms.cpu().numpy()[there])
        partner = np.where(match.partner < 0, -1, there[match.partner])
        before = mass(frozen)
        effects: dict[str, list[Floats]] = {}
        for spec in self.trials:
            found = effect(before, mass(codes_of(other, self.plan, self.store, spec, device)), live)
            effects.setdefault(spec.method, []).append(np.where(partner < 0, np.nan, found[partner]))
        return Partners(match.likeness, {method: np.mean(each, axis=0) for method, each in effects.items()})


def replications(own: dict[str, Floats], others: Sequence[Partners]) -> tuple[Replication, ...]:
    """How effects (F,) of each method agree with those of the partners: over features of all `others` whose partner is
    the same feature, and over those whose partner is another. `own` are the effects here."""
    return tuple(_of(method, mine, others) for method, mine in own.items()) if others else ()


def in_words(found: Replication) -> str:
    """A sentence about one method."""
    same = f"{found.same} pairs of features that another SAE seed has, too (cosine ≥ {stability.SAME:g})"
    if found.same_r is None and found.same >= _FEWEST:
        return f"Whether what {found.method} changed replicates in other SAE seeds cannot be said: nothing varies."
    if found.same_r is None:
        return f"Too few features are found in other SAE seeds to say whether what {found.method} changed replicates."
    apart = ""
    if found.apart_r is not None:
        apart = f"; over {found.apart} pairs with no such partner (< {APART:g}) by r = {found.apart_r:.2f}"
    return f"What {found.method} changed replicates by r = {found.same_r:.2f} over {same}{apart}."


def _of(method: str, mine: Floats, others: Sequence[Partners]) -> Replication:
    likeness = np.concatenate([each.likeness for each in others])
    theirs = np.concatenate([each.effects.get(method, np.full(len(mine), np.nan)) for each in others])
    mine = np.tile(mine, len(others))
    known = np.isfinite(mine) & np.isfinite(theirs)
    same, apart = known & (likeness >= stability.SAME), known & (likeness < APART)
    return Replication(
        method=method,
        same=int(same.sum()),
        same_r=_correlation(mine[same], theirs[same]),
        apart=int(apart.sum()),
        apart_r=_correlation(mine[apart], theirs[apart]),
    )


def _correlation(a: Floats, b: Floats) -> float | None:
    """Pearson's; None for few pairs, or where one side does not vary."""
    if len(a) < _FEWEST or not (np.ptp(a) and np.ptp(b)):
        return None
    return float(np.corrcoef(a, b)[0, 1])
