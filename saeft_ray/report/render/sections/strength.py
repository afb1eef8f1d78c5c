"""Methods at equal strength: the curves and what differs where answers moved equally far."""

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import MISSING, in_list, number, pp
from saeft_ray.report.render.blocks import (
    Block,
    Bullets,
    Chip,
    Column,
    Folded,
    Plot,
    Section,
    Strong,
    Text,
    Words,
    table,
)
from saeft_ray.report.strengths import EqualStrength, Strengths

ORDER = 35


_HOW_TO_READ = (
    "Described, not tested. Degree 5: the same difference with a curve that can bend more; an estimate that moves is "
    "not to be trusted. Area: what a method’s (ID, shifted) accuracies dominate above the frozen model’s ID and plain "
    "fine-tuning’s shifted accuracy; it rewards reach. Equal lambdas: one lambda is another strength for every penalty."
)


_STRENGTH = " So most of what these methods differ by is strength."


def section(report: Report) -> Section | None:
    """The picture, the one curve, and each pair in a sentence."""
    found = report.strengths
    if found is None:
        return None
    start = (
        "Strength is how far answers on the selection split moved from the frozen model’s (KL). Each method was run at "
        "several strengths around its chosen one. Two methods that were each tuned on its own stand at different "
        "strengths; here they are compared where these are equal. No test set chose a strength."
    )
    caption = "Left: every method over its strengths; stars have none. Right: the same accuracy over strength."
    blocks: list[Block] = [Text(words=start), Plot(name="strength", title="Accuracy over strength", caption=caption)]
    if found.r2 is not None and found.residual is not None:
        text = (
            f"One curve of log KL, the same for all methods, explains {number(100 * found.r2, 0)} % of what "
            f"their {report.metric} differs by on {report.endpoint} (R² {number(found.r2, 2)}, "
            f"residual {pp(found.residual)} pp)."
        )
        if found.departs:
            name, without = found.departs
            text += f" {name} departs most from it: without it R² is {number(without, 2)}."
        if max(found.r2, found.departs[1] if found.departs else 0) >= 0.9:
            text += " So most of what the others differ by is strength." if found.r2 < 0.9 else _STRENGTH
        blocks.append(Text(words=text))
    blocks.append(Bullets(lines=tuple(map(_line, found.compared))))
    if found.without:
        text = f"{in_list(list(found.without))}: one strength alone, so there is nothing to compare at equal strength."
        blocks.append(Text(words=text, style="note"))
    blocks.append(_beside(found))
    return Section(title="At equal strength", blocks=tuple(blocks))


def _beside(found: Strengths) -> Folded:
    """Reach, area and equal lambdas: described, not tested."""
    reached = [(c.method, str(len(c.points)), f"{c.least:.3g} to {c.greatest:.3g}") for c in found.curves]
    lines = [
        (
            f"{each.method} − {each.against}",
            _difference(each.again),
            each.area if isinstance(each.area, str) else _difference(tuple(100 * end for end in each.area)),
            "; ".join(f"{_difference(d)} at {_lambdas(names)}" for names, d in each.lambdas) or "no lambdas in common",
        )
        for each in found.beside
    ]
    return Folded(
        title="Reach, another curve, area and equal lambdas",
        blocks=(
            Text(words=_HOW_TO_READ, style="note"),
            table(("method", "strengths", "KL reached"), reached),
            table(("pair", "degree 5, pp", Column(title="area, pp²", align="wide"),
                   Column(title="at equal lambdas, pp", align="wide")), lines),
        ),
    )  # fmt: skip


def _difference(found: tuple[float, ...] | None) -> str:
    if found is None:
        return MISSING
    mean, low, high = (pp(end, signed=True) for end in found)
    return f"{mean} ({low} to {high})"


def _lambdas(lambdas: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in lambdas)


def _line(each: EqualStrength) -> Words:
    return (Strong(f"{each.method} against {each.against}, {each.endpoint}:"), " ", Chip(each.verdict),
            f" {each.sentence}")  # fmt: skip
