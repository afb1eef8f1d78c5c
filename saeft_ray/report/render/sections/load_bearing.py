"""Whether the trained SAE itself matters, or any dictionary would do."""

from saeft_ray.report.content import Report
from saeft_ray.report.render.blocks import Card, Cards, Section

ORDER = 30


def section(report: Report) -> Section | None:
    """One card per control: the answer at the strengths that were chosen, then the one at equal strength."""
    if not report.load_bearing:
        return None
    equal = dict[tuple[str, str], str]()
    for each in report.strengths.compared if report.strengths else ():
        equal.setdefault((each.method, each.against), f" {each.sentence}")  # the endpoint of the verdicts comes first
    cards = tuple(
        Card(
            title=f"{control.comparison.method} against {control.comparison.against}",
            verdict=control.comparison.verdict,
            text=control.answer + equal.get((control.comparison.method, control.comparison.against), ""),
        )
        for control in report.load_bearing
    )
    return Section(title=report.load_bearing[0].question, blocks=(Cards(cards=cards),))
