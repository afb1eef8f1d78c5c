"""What is said first of what changed: how much a dictionary sees of it, and only then what."""

from collections.abc import Container, Sequence

from saeft_ray.features.content import Feature, Movement, Reading, named_twice
from saeft_ray.features.judged import against_frozen, stable, strongest

BLIND = 0.3  # the share of a change below which a dictionary cannot tell what changed
_KINDS = {
    "trained": "dictionary",
    "imported": "imported SAE",
    "random": "random dictionary",
    "pca": "PCA dictionary",
    "neurons": "neurons",
}


def sentences(
    readings: Sequence[Reading], alpha: float, least: float, features: Sequence[Feature] = ()
) -> tuple[str, ...]:
    """About the first reading and its `features`, with names compared to the others."""
    if not readings:
        return ()
    first = readings[0]
    told = [_sees(m, first.kind) for m in first.movements]
    for m in first.movements:
        if m.seeds > 1:
            told.append(_changed(m, first.tested, alpha, least) + _strongest(features, m.method, alpha))
    told += steady(features, alpha)
    single = [m.method for m in first.movements if m.seeds == 1]
    if single:
        told.append(f"Nothing can be tested for {_listed(single)}: one seed shows no spread between seeds.")
    return (*told, *_named(readings))


def _sees(m: Movement, kind: str) -> str:
    reader = f"The {_KINDS.get(kind, kind)}"
    if m.seen is None:
        return f"{m.method} changed no embedding: there is nothing to see."
    drift = "" if m.drift is None else f" {_percent(m.drift)} of the change is one drift of all images."
    if m.seen < BLIND:
        why = (
            "its codes add more error than they explain" if m.seen < 0 else f"it sees {_percent(m.seen)} of the change"
        )
        return f"{reader} cannot tell what {m.method} changed: {why}.{drift}"
    return f"{reader} sees {_percent(m.seen)} of what {m.method} changed.{drift}"


def _changed(m: Movement, tested: int, alpha: float, least: float) -> str:
    if not tested:
        return f"No feature is active often enough to be tested under {m.method}."
    both = m.grew + m.shrank
    how = f" by more than {_percent(least)}" if least else ""
    line = (
        f"Of {tested} tested features, {m.grew} grew and {m.shrank} shrank{how} under {m.method} (false discovery rate "
        f"{_percent(alpha)})"
    )
    if not both:
        return f"{line}."
    return (
        f"{line}; {m.beyond} of these {both} surely changed: more than the same movement changes them on other images."
    )


def _strongest(features: Sequence[Feature], method: str, alpha: float) -> str:
    twice = named_twice(features)
    found = [f"{title(f, twice)} ×{by:.2f}" for f, by in strongest(features, method, alpha)]
    return f" Strongest beyond that: {_listed(found)}." if found else ""


def title(feature: Feature, twice: Container[str]) -> str:
    """The name of a feature, with its number where it has none or shares it."""
    if feature.name is None:
        return f"feature {feature.index}"
    return f"{feature.name.word} ({feature.index})" if feature.name.word in twice else feature.name.word


def steady(features: Sequence[Feature], alpha: float) -> list[str]:
    """How many features that surely changed other SAE seeds have, where they were looked for."""
    told = [f for f in features if f.of and against_frozen(f, alpha)]
    if not told:
        return []
    count, of = sum(map(stable, told)), told[0].of
    rare = "; another dictionary may describe the same change by other features" if 2 * count < len(told) else ""
    return [f"Found by most of {of} other SAE seeds: {count} of {len(told)} features that surely changed{rare}."]


def _named(readings: Sequence[Reading]) -> list[str]:
    first, *others = readings
    if first.named is None:
        return []
    of = [f"{r.named} of {r.live} of the {_KINDS.get(r.kind, r.kind)}" for r in others if r.named is not None]
    rest = f"; for comparison, {_listed(of)}" if of else ""
    random = any(r.named for r in others if r.kind == "random")
    so = " A random dictionary's features have names too, so a name is no sign that training found the feature."
    return [f"{first.named} of {first.live} live features have a name{rest}.{so if random else ''}"]


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if abs(share) < 0.01 else f"{100 * share:.0f} %"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
