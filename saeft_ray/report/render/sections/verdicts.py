"""The verdict of each method against the baseline."""

from saeft_ray.report.content import Comparison, Report
from saeft_ray.report.headline import is_trade_off
from saeft_ray.report.numbers import pp
from saeft_ray.report.render.blocks import Card, Cards, Section
from saeft_ray.report.render.phrases import difference

ORDER = 10


def section(report: Report) -> Section | None:
    """One card per comparison with the baseline, with what the method does to ID accuracy."""
    if not report.primary:
        return None
    id_of = {c.method: c for c in report.id}
    cards = tuple(_card(report, c, id_of.get(c.method)) for c in report.primary)
    return Section(title="Verdicts", blocks=(Cards(cards=cards, grid=True),))


def _card(report: Report, c: Comparison, on_id: Comparison | None) -> Card:
    big, note = None, ""
    if (d := c.paired) is not None:
        interval = "" if d.lo is None or d.hi is None else f"{interval_name(c)} {pp(d.lo)} to {pp(d.hi)}"
        big = (f"{pp(d.mean, True)} pp", interval)
    if on_id is not None and on_id.paired is not None:
        note = f"{', '.join(report.id_sets)}: {difference(on_id)}, {on_id.verdict}."
    note += " A trade-off, not a gain." if is_trade_off(c, on_id) else ""
    note = f"{note} {_standing(report, c.method)}".strip()
    return Card(title=c.label, verdict=c.verdict, text=c.sentence, big=big, note=note)


def _standing(report: Report, name: str) -> str:
    """What must be known of a method before its verdict is taken for success."""
    if name in report.standing.at_chance:
        return "At chance on every test set."
    if (frozen := report.standing.unmoved.get(name)) is not None:
        return f"Its scores are those of {frozen} on every test set and seed: training moved nothing."
    return "A reference: it was not fine-tuned." if name in report.standing.references else ""


def interval_name(c: Comparison) -> str:
    """Name the interval of `c`: `95 % CI`, or one that holds at every look."""
    level = 95 if c.paired is None else round(100 * c.paired.confidence)
    if c.correction != "looks":
        return f"{level} % CI{', spread pooled' if c.pooled else ', unpaired' if c.unpaired else ''}"
    engine = c.course.engine if c.course is not None else None
    return f"{level} % {'confidence sequence' if engine == 'anytime' else 'repeated CI'}"
