"""Methods at equal strength: the curves and what differs where answers moved equally far."""

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import in_list, number, pp
from saeft_ray.report.render.blocks import Block, Bullets, Chip, Plot, Section, Strong, Text, Words
from saeft_ray.report.strengths import EqualStrength

ORDER = 35


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
        what = "So most of what these methods differ by is strength." if found.r2 >= 0.9 else ""
        text = (
            f"One curve of log KL, the same for all methods, explains {number(100 * found.r2, 0)} % of their "
            f"{report.endpoint} {report.metric} (R² {number(found.r2, 2)}, residual {pp(found.residual)} pp). {what}"
        )
        blocks.append(Text(words=text.rstrip()))
    blocks.append(Bullets(lines=tuple(map(_line, found.compared))))
    if found.without:
        text = f"{in_list(list(found.without))}: one strength alone, so there is nothing to compare at equal strength."
        blocks.append(Text(words=text, style="note"))
    return Section(title="At equal strength", blocks=tuple(blocks))


def _line(each: EqualStrength) -> Words:
    return (Strong(f"{each.method} against {each.against}, {each.endpoint}:"), " ", Chip(each.verdict),
            f" {each.sentence}")  # fmt: skip
