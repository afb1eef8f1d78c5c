"""The section of warnings: they limit the conclusions."""

from saeft_ray.features.sentences import steady
from saeft_ray.report.content import Report
from saeft_ray.report.render.blocks import Bullets, Section

ORDER = 20


def section(report: Report) -> Section | None:
    """Every warning as one point."""
    what = report.what_changed
    lines = [warning.text for warning in report.warnings]
    lines += steady(what.features, what.alpha) if what else []
    if not lines:
        return None
    points = Bullets(lines=tuple(lines))
    return Section(title="Before you conclude anything", blocks=(points,), frame="warning")
