"""The pairs that the sweep file asks to compare."""

from saeft_ray.report.content import Report
from saeft_ray.report.render.blocks import Bullets, Chip, Section, Strong

ORDER = 40


def section(report: Report) -> Section | None:
    """The declared pairs whose sentence no other section has."""
    answered = {(control.comparison.method, control.comparison.against) for control in report.load_bearing}
    pairs = [c for c in report.controls if (c.method, c.against) not in answered]
    if not pairs:
        return None
    lines = tuple((Strong(f"{c.label} against {c.against}:"), " ", Chip(c.verdict), f" {c.sentence}") for c in pairs)
    return Section(title="Declared pairs", blocks=(Bullets(lines=lines),))
