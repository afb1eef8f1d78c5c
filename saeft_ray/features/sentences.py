"""What is said first of what changed: how much a dictionary sees of it, and only then what."""

from collections.abc import Sequence

from saeft_ray.features.content import Movement, Reading

BLIND = 0.3  # the share of a change below which a dictionary cannot tell what changed
_KINDS = {
    "trained": "dictionary",
    "imported": "imported SAE",
    "random": "random dictionary",
    "pca": "PCA dictionary",
    "neurons": "neurons",
}


def sentences(readings: Sequence[Reading], alpha: float, least: float) -> tuple[str, ...]:
    """About the first reading, with names compared to the others; methods of which it sees little come first."""
    if not readings:
        return ()
    first = readings[0]
    told = [_sees(m, first.kind) for m in sorted(first.movements, key=lambda m: (m.seen is not None, m.seen or 0.0))]
    told += [_changed(m, first.tested, alpha, least) for m in first.movements if m.seeds > 1]
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
    does = "goes" if m.beyond == 1 else "go"
    return f"{line}; {m.beyond} of these {both} {does} beyond what the same movement does to other images."


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
