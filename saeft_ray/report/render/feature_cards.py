"""What is said of one feature that fine-tuning changed, in words and as blocks: for the report and for the page."""

from saeft_ray.features.content import FROZEN, Effect, Feature, FeatureChange, Specimen, Verdict, WhatChanged
from saeft_ray.features.judged import factor, gap, moved, sure
from saeft_ray.features.sentences import title
from saeft_ray.report.numbers import MISSING, count, number, percent
from saeft_ray.report.render.blocks import EffectLine, FeatureCard, PictureLine
from saeft_ray.report.render.phrases import bare_p

LEAST = 0.005  # a smaller F1 would be written as 0
NO_MORE = "no more than the same movement dealt to other images does"
KINDS = {
    "trained": "SAE", "random": "random dictionary", "pca": "PCA directions", "neurons": "neurons",
    "imported": "imported SAE",
}  # fmt: skip


def size(feature: Feature, alpha: float) -> float:
    """How much a feature changed: its largest effect beyond the control, those that are sure before all others."""
    return max((gap(c) + 1000 * sure(c, alpha) for c in feature.changes), default=-1.0)


def ordered(what: WhatChanged) -> list[Feature]:
    """The features, most changed first."""
    return sorted(what.features, key=lambda f: (-size(f, what.alpha), f.index))


def reach(what: WhatChanged) -> float:
    """The end of the axis on which all effects are drawn: a factor of two at least, of sixteen at most."""
    ends = (v for f in what.features for c in f.changes for v in (c.effect.mean, c.effect.lo, c.effect.hi))
    return min(max([1.0, *(abs(v) for v in ends if v is not None)]), 4.0)


def card(
    feature: Feature, what: WhatChanged, end: float, brief: bool = False, of: FeatureChange | None = None
) -> FeatureCard:
    """Everything about one feature of `what`; `end` of its axis is that of `reach`.

    `brief` keeps, of each kind of picture, those of the change `of`; without it, of the surest method, compared with
    the frozen model if any such change is sure.
    """
    alpha = what.alpha
    lines = [
        PictureLine(title="strongest before", images=feature.strongest),
        PictureLine(title="spread over all it fires on", images=feature.spread),
    ]
    changes = sorted(feature.changes, key=lambda c: _rank(c, alpha))[:1] if brief else feature.changes
    changes = [of] if of is not None else changes
    for change in changes:
        lines += _pictures(change, feature, what.images)
    return FeatureCard(
        title=title(feature, what.twice) if feature.name else "unnamed",
        note=facts(feature),
        effects=tuple(effect_line(change, what) for change in feature.changes),
        pictures=tuple(line for line in lines if line.images or line.says),
        reach=end,
    )


def _rank(change: FeatureChange, alpha: float) -> tuple[bool, bool, float]:
    return not sure(change, alpha), change.against != FROZEN, -gap(change)


def facts(feature: Feature) -> str:
    """One line: its number, how sure its name is, how often it is active, and whether other SAEs have it."""
    parts = [f"feature {feature.index}"]
    if feature.name:
        parts.append(f"name fits with F1 {number(feature.name.score)} (p {bare_p(feature.name.p)})")
    elif near := [f"{word} {number(score)}" for word, score in feature.words[:3] if score >= LEAST]:
        parts.append(
            f"no name is sure; words most like its images, the nearest first, with their F1: {', '.join(near)}"
        )
    else:
        parts.append("no name")
    parts.append(f"active on {share(feature.live)} of the images before")
    parts.append(found(feature))
    return " · ".join(parts)


def share(part: float) -> str:
    """A share in percent; what is there is never 0."""
    return "less than 0.1 %" if 0 < part < 0.0005 else f"{percent(part)} %"


def found(feature: Feature) -> str:
    """How many other seeds have the feature."""
    if feature.found is None or not feature.of:
        return "not looked for in other SAE seeds"
    return f"found by {feature.found} of {count(feature.of, 'other SAE seed')}"


def effect_line(change: FeatureChange, what: WhatChanged) -> EffectLine:
    """The change of one method, drawn and said."""
    e = change.effect
    return EffectLine(
        label=label(change),
        mean=e.mean,
        lo=e.lo,
        hi=e.hi,
        verdict=e.verdict,
        sure=sure(change, what.alpha),
        text=times(e),
        note=_tested(change, what),
    )


def said(what: WhatChanged) -> dict[Verdict, str]:
    """What is said of each verdict."""
    return {
        "grew": "grew",
        "shrank": "shrank",
        "not found": f"no change of more than {number(100 * what.least, 0)} % shown",
        "not tested": "not tested",
    }


def label(change: FeatureChange) -> str:
    """The method, and what it is compared with unless that is the frozen model."""
    return change.method if change.against == FROZEN else f"{change.method} against {change.against}"


def times(effect: Effect) -> str:
    """The effect as a factor: `×1.32 (1.10 to 1.58)`."""
    text = f"×{_factor(effect.mean)}"
    if effect.lo is not None and effect.hi is not None:
        text += f" ({_factor(effect.lo)} to {_factor(effect.hi)})"
    return text


def _tested(change: FeatureChange, what: WhatChanged) -> str:
    effect = change.effect
    parts = [said(what)[effect.verdict]]
    if moved(change) and not sure(change, what.alpha):
        parts[0] += ", but " + (NO_MORE if effect.beyond_q is not None else "without a control to compare it to")
    if effect.q is not None:
        parts.append(_q(effect.q))
    if effect.control is not None:
        control = f"control ×{_factor(effect.control)}"
        if effect.beyond_q is not None:
            control += f", beyond it {_q(effect.beyond_q)}"
        parts.append(control)
    return " · ".join(parts)


def _q(value: float) -> str:
    # On one line.
    return f"q {bare_p(value)}".replace(" ", "\N{NO-BREAK SPACE}")


def _factor(log2: float) -> str:
    value = factor(log2)
    if 0.01 <= value < 1000:
        return number(value)
    return f"{value:.1e}"


def _pictures(change: FeatureChange, feature: Feature, images: int | None) -> list[PictureLine]:
    born = f"{count_of(change.born, images)} per seed"
    if change.other_classes is not None and feature.name:
        born += f"; {percent(change.other_classes, 0)} % of other classes"
    newly, no_longer = f"{change.method}: newly fires on", f"{change.method}: no longer fires on"
    if change.against != FROZEN:
        newly = f"fires under {change.method}, not under {change.against}"
        no_longer = f"fires under {change.against}, not under {change.method}"
    return [
        PictureLine(title=newly, note=born, images=change.born_images, says=_share(change)),
        PictureLine(
            title=no_longer,
            note=f"{count_of(change.died, images)} per seed",
            images=change.died_images,
        ),
    ]


def count_of(mean: float, of: int | None = None) -> str:
    """A mean number of images, of so many."""
    if of is not None:
        return f"{number(mean, 0 if mean >= 10 else 1)} of {of:,} images"
    return f"{number(mean, 0 if mean >= 10 else 1)} images"


def _share(change: FeatureChange) -> str:
    s = change.shared
    if s is None:
        return ""
    return (
        f"They are more like “{s.word}” than others of their class and set, by {number(s.shift, 1)} standard "
        f"deviations beyond the control (q {bare_p(s.q)}). "
        f"In {percent(s.agree, 0)} % of the seeds this word is first."
    )


def specimens(what: WhatChanged) -> tuple[list[str], list[str], dict[tuple[str, str], Specimen]]:
    """Figure 2: its words, its kinds of dictionaries, and what stands at (kind, word)."""
    words = list(dict.fromkeys(s.word for s in what.specimens))
    kinds = list(dict.fromkeys(s.kind for s in what.specimens))
    return words, kinds, {(s.kind, s.word): s for s in what.specimens}


def dash(value: float | None, decimals: int = 1) -> str:
    """A share in percent; a dash where there is none."""
    return MISSING if value is None else percent(value, decimals)
