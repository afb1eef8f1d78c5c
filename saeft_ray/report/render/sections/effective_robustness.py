"""OOD accuracy beyond what standard models of the same ID accuracy reach."""

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import number
from saeft_ray.report.render.blocks import Bullets, Section, Text

ORDER = 70


def section(report: Report) -> Section | None:
    """The lines that it is measured from, and its verdicts."""
    if not report.effective:
        return None
    verdicts = Bullets(lines=tuple(c.sentence for c in report.effective))
    return Section(title="Effective robustness", blocks=(Text(words=_note(report)), verdicts))


def _note(report: Report) -> str:
    known = "; ".join(
        f"{name} {number(line.slope, 3)} and {number(line.intercept, 3, signed=True)}"
        for name, line in report.lines.items()
    )
    return (
        f"Effective robustness is OOD {report.metric} beyond what standard models of the same ID {report.metric} reach "
        "(Taori et al. "
        f"2020), by the lines that the sweep declares (slope and intercept in logits): {known}. The difference between "
        "two methods hardly depends on the line's own error; the level of one method does."
    )
