"""What "surely changed" means, and which features changed most: the one place where a record is judged."""

from collections.abc import Sequence

from saeft_ray.features.content import FROZEN, Feature, FeatureChange


def sure(change: FeatureChange, alpha: float) -> bool:
    """Whether the feature grew or shrank by more than the least change, and by more than the control (both q's are at
    most `alpha`)."""
    beyond = change.effect.beyond_q
    return moved(change) and beyond is not None and beyond <= alpha


def moved(change: FeatureChange) -> bool:
    """Whether the mass changed by more than the least change, whatever the control does."""
    return change.effect.verdict in ("grew", "shrank")


def gap(change: FeatureChange) -> float:
    """The size of an effect beyond the control, in doublings."""
    return abs(change.effect.mean - (change.effect.control or 0.0))


def stable(feature: Feature) -> bool:
    """Whether most other SAE seeds have the feature."""
    return feature.found is not None and bool(feature.of) and 2 * feature.found > (feature.of or 0)


def against_frozen(feature: Feature, alpha: float) -> float:
    """The largest sure change of the feature under any method, compared with the frozen model, beyond the control; 0
    where there is none."""
    return max((gap(c) for c in feature.changes if c.against == FROZEN and sure(c, alpha)), default=0.0)


def strongest(features: Sequence[Feature], method: str, alpha: float, most: int = 3) -> list[tuple[Feature, float]]:
    """The features that surely changed most under `method` against the frozen model, each with its factor."""
    found = [
        (feature, change)
        for feature in features
        for change in feature.changes
        if change.method == method and change.against == FROZEN and sure(change, alpha)
    ]
    found.sort(key=lambda each: -gap(each[1]))
    return [(feature, factor(change.effect.mean)) for feature, change in found[:most]]


def factor(log2: float) -> float:
    """Mass after divided by mass before, within what a float can hold."""
    return float(2.0 ** min(max(log2, -99.0), 99.0))
