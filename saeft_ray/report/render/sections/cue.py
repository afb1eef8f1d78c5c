"""A feature that the classes do not need and that tells the label: how every method answers where it misleads."""

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import MISSING, percent
from saeft_ray.report.render.blocks import Section, Text, table

ORDER = 87


def section(report: Report) -> Section | None:
    """What was found, and the accuracy of every method on the selection images that go against it; none where no cue is
    likely."""
    cue = report.cue
    if cue is None or not cue.likely:
        return None
    note = (
        f"Accuracy in % on the selection split, means over confirm seeds; {percent(cue.against)} % of its images go "
        "against the feature: they are not in the commonest group of their class. Values were chosen on this split, "
        "and groups are found, not known; no verdict rests on these numbers. A method that is clearly below the frozen "
        "model on images against the feature has learned to go by it."
    )
    lines = [
        (m.method, str(m.seeds) if m.seeds else MISSING, percent(m.against), percent(m.others)) for m in cue.methods
    ]
    answers = (table(("method", "n", "against the feature", "with it"), lines), Text(words=note, style="note"))
    return Section(title="A feature that tells the label", blocks=(Text(words=cue.words), *(answers if lines else ())))
