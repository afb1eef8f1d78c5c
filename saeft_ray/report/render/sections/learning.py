"""How the methods learned, epoch by epoch."""

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import number, percent
from saeft_ray.report.render.blocks import Plot, Section, Text, table

ORDER = 105
_CAPTION = (
    "Means over the confirm trials. A loss is the sum of its terms, penalties included, so losses of two methods are "
    "not comparable: a curve that still falls at its end says that more epochs may help."
)


def section(report: Report) -> Section | None:
    """The curves, and where each begins and ends."""
    if not report.learning:
        return None
    lines = [
        (
            curve.method,
            str(curve.trials),
            str(curve.loss[-1][0]),
            number(curve.loss[0][1], 3),
            number(curve.loss[-1][1], 3),
            percent(curve.selection[-1][1], 1) if curve.selection else "–",
        )
        for curve in report.learning
    ]
    head = ("method", "trials", "epochs", "loss after the first", "after the last", "selection accuracy, %")
    return Section(
        title="Learning curves",
        blocks=(
            Text(words="What happened in training. It is not evidence about the methods.", style="note"),
            Plot(name="learning", title="Loss by epoch", caption=_CAPTION),
            table(head, lines),
        ),
    )
