"""Beside a comparison at equal strength: reach, equal lambdas, the area above two reference points, another degree."""

import math
from collections.abc import Mapping, Sequence

from saeft_ray import stats
from saeft_ray.report.strengths import AtLambdas, BesideStrength, StrengthRun
from saeft_ray.stats.equal_strength import Pair
from saeft_ray.stats.paired import Paired

STEADIER = 5
"""The degree of the curve that an estimate is made with again: one that moves had a curve that is no cubic."""


def beside_strength(
    runs: Sequence[StrengthRun],
    confirmed: Sequence[StrengthRun],
    pairs: Sequence[Pair],
    confidence: float,
    floor: float,
) -> tuple[BesideStrength, ...]:
    """What else is known of `pairs` from `runs`, those of the phase `curves`; the frozen model and plain fine-tuning
    are among `confirmed`, `floor` is the least variance of an OOD accuracy. On the endpoint alone: described, not
    tested (docs/statistics.md 3.11)."""
    points = stats.runs([r.method for r in runs], [r.seed or 0 for r in runs], [r.kl for r in runs])
    again = stats.at_equal_strength(points, [r.ood for r in runs], pairs, None, confidence, floor, STEADIER)
    reference = _reference(confirmed)
    return tuple(
        BesideStrength(
            method=pair[0],
            against=pair[1],
            again=_ends(other.comparison),
            area=_area(points, runs, reference, pair, confidence),
            lambdas=_at_equal_lambdas(runs, pair, confidence),
        )
        for pair, other in zip(pairs, again, strict=True)
    )


def _reference(confirmed: Sequence[StrengthRun]) -> dict[int, tuple[float, float]]:
    """The frozen model's ID and plain fine-tuning's OOD accuracy by seed; empty without either."""
    frozen = next((r.id for r in confirmed if r.type == "zero_shot"), None)
    if frozen is None or math.isnan(frozen):
        return {}
    return {r.seed: (frozen, r.ood) for r in confirmed if r.type == "ft" and r.seed is not None}


def _area(
    points: stats.Runs, runs: Sequence[StrengthRun], reference: Mapping[int, tuple[float, float]], pair: Pair,
    confidence: float,
) -> tuple[float, float, float] | str:  # fmt: skip
    """The difference of the areas, with its interval; or why there is none."""
    if not reference:
        return "needs zero_shot, ft and an ID set"
    found = stats.hypervolume_difference(
        points, [r.id for r in runs], [r.ood for r in runs], reference, pair, confidence
    )
    return _ends(found.comparison) or str(found.reason or "no spread can be estimated")


def _at_equal_lambdas(runs: Sequence[StrengthRun], pair: Pair, confidence: float) -> tuple[AtLambdas, ...]:
    """The differences wherever both methods ran with the very same lambdas."""
    used = [{r.lambdas for r in runs if r.method == name} for name in pair]
    common = sorted(lambdas for lambdas in used[0] & used[1] if lambdas)
    mine = [r for r in runs if r.method in pair and r.lambdas in common]
    if not mine:
        return ()
    found = stats.at_equal_lambda(
        [r.method for r in mine], [r.seed or 0 for r in mine], [float(common.index(r.lambdas)) for r in mine],
        [r.ood for r in mine], pair, confidence,
    )  # fmt: skip
    ends = {common[int(place)]: _ends(comparison) for place, comparison in found.items()}
    return tuple(AtLambdas(lambdas, difference) for lambdas, difference in ends.items() if difference)


def _ends(found: Paired | None) -> tuple[float, float, float] | None:
    """A difference and the ends of its interval."""
    if found is None or found.lo is None or found.hi is None:
        return None
    return found.mean, found.lo, found.hi
