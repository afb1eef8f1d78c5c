"""Whether the trained SAE itself matters, or any dictionary would do."""

from saeft_ray.report.content import Report
from saeft_ray.report.render.blocks import Card, Cards, Section

ORDER = 30


def section(report: Report) -> Section | None:
    """One card per control."""
    if not report.load_bearing:
        return None
    cards = tuple(
        Card(
            title=f"{control.comparison.method} against {control.comparison.against}",
            verdict=control.comparison.verdict,
            text=control.answer,
        )
        for control in report.load_bearing
    )
    return Section(title=report.load_bearing[0].question, blocks=(Cards(cards=cards),))
