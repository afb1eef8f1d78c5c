"""Whether the trained SAE itself matters, or any dictionary would do."""

from saeft_ray.report.content import Control, Report
from saeft_ray.report.render.blocks import Card, Cards, Section
from saeft_ray.report.strengths import Strengths

ORDER = 30


def section(report: Report) -> Section | None:
    """One card per control: the answer at the strengths that were chosen, then the one at equal strength."""
    if not report.load_bearing:
        return None
    cards = tuple(
        Card(
            title=f"{control.comparison.method} against {control.comparison.against}",
            verdict=control.comparison.verdict,
            text=_both(control, report.strengths),
        )
        for control in report.load_bearing
    )
    return Section(title=report.load_bearing[0].question, blocks=(Cards(cards=cards),))


def _both(control: Control, strengths: Strengths | None) -> str:
    equal = strengths.answer(control.comparison.method, control.comparison.against) if strengths else None
    return f"{control.answer} {equal.sentence}" if equal else control.answer
