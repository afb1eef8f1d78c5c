"""The section of warnings: they limit the conclusions."""

from saeft_ray.report.content import Report
from saeft_ray.report.render.blocks import Bullets, Section

ORDER = 20


def section(report: Report) -> Section | None:
    """Every warning as one point."""
    if not report.warnings:
        return None
    points = Bullets(lines=tuple(warning.text for warning in report.warnings))
    return Section(title="Before you conclude anything", blocks=(points,), frame="warning")
