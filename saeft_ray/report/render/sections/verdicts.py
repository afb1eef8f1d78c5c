"""The verdict of each method against the baseline."""

from saeft_ray.report.content import Comparison, Report
from saeft_ray.report.numbers import pp
from saeft_ray.report.render.blocks import Card, Cards, Section
from saeft_ray.report.render.phrases import difference

ORDER = 10


def section(report: Report) -> Section | None:
    """One card per comparison with the baseline, with what the method does to ID accuracy."""
    if not report.primary:
        return None
    id_of = {c.method: c for c in report.id}
    cards = tuple(_card(c, id_of.get(c.method), ", ".join(report.id_sets)) for c in report.primary)
    return Section(title="Verdicts", blocks=(Cards(cards=cards, grid=True),))


def _card(c: Comparison, on_id: Comparison | None, id_sets: str) -> Card:
    big, note = None, ""
    if (d := c.paired) is not None:
        interval = "" if d.lo is None or d.hi is None else f"{interval_name(c)} {pp(d.lo)} to {pp(d.hi)}"
        big = (f"{pp(d.mean, True)} pp", interval)
    if on_id is not None and on_id.paired is not None:
        note = f"{id_sets}: {difference(on_id)}, {on_id.verdict}."
    return Card(title=c.method, verdict=c.verdict, text=c.sentence, big=big, note=note)


def interval_name(c: Comparison) -> str:
    """Name the interval of `c`: `95 % CI`, or one that holds at every look."""
    level = 95 if c.paired is None else round(100 * c.paired.confidence)
    if c.correction != "looks":
        return f"{level} % CI{', spread pooled' if c.pooled else ''}"
    engine = c.course.engine if c.course is not None else None
    return f"{level} % {'confidence sequence' if engine == 'anytime' else 'repeated CI'}"
