"""The plot of the learning curves."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import number
from saeft_ray.report.render.plots import COLOURS, MARKERS, WIDTH, Plot, plain, style, to_svg


def draw(report: Report) -> dict[str, Plot]:
    """The mean loss of each method after each epoch, and its selection accuracy where epochs have one."""
    curves = report.learning
    if not curves:
        return {}
    scored = any(len(curve.selection) > 1 for curve in curves)
    with style("learning"):
        figure = Figure(figsize=(WIDTH, 3.0))
        panels = figure.subplots(1, 2 if scored else 1, squeeze=False)[0]
        for position, curve in enumerate(curves):
            look: dict[str, Any] = {"markersize": 3, "linewidth": 1.2, "label": plain(curve.method)}
            look |= {"color": COLOURS[position % len(COLOURS)], "marker": MARKERS[position % len(MARKERS)]}
            panels[0].plot(*zip(*curve.loss, strict=True), **look)
            if scored and len(curve.selection) > 1:
                panels[1].plot([epoch for epoch, _ in curve.selection], [100 * v for _, v in curve.selection], **look)
        for panel, title in zip(panels, ("loss", "selection accuracy, %"), strict=False):
            panel.set_ylabel(title)
            panel.set_xlabel("epoch")
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panels[0].legend(frameon=False, fontsize=8, ncols=2)
        spoken = (f"{c.method} {number(c.loss[0][1], 3)} to {number(c.loss[-1][1], 3)}" for c in curves)
        return {"learning": to_svg(figure, "learning", f"Mean loss by epoch: {'; '.join(spoken)}")}
