"""The trade-off of ID and OOD accuracy."""

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import MISSING, count, number, percent
from saeft_ray.report.render.blocks import Section, folded_table

ORDER = 93


def section(report: Report) -> Section | None:
    """One line per method, those on the front first."""
    if report.front is None:
        return None
    x, y = report.front.reference
    text = (
        "On the front: no other method is as good in both and better in one, by their means over "
        f"{count(report.front.seeds, 'seed')} that all have. Together these dominate an area of "
        f"{number(10_000 * report.front.area, 0)} %² above ({percent(x)} % ID, {percent(y)} % OOD); areas reward "
        "the luckiest of equal methods. How often: when whole seeds are drawn anew, from ten seeds on."
    )
    order = sorted(report.front.methods, key=lambda m: (not m.on_front, -m.id))
    return folded_table(
        title=f"The trade-off of ID and OOD {report.metric}",
        text=text,
        head=("method", "ID, %", "mean OOD, %", "on the front", "how often"),
        lines=tuple(
            (
                m.method,
                percent(m.id),
                percent(m.ood),
                "yes" if m.on_front else "no",
                MISSING if m.share is None else f"{percent(m.share, 0)} %",
            )
            for m in order
        ),
    )
