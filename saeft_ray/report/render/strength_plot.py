"""The picture of methods over their strengths: ID against OOD accuracy, and OOD accuracy against strength."""

import math

from matplotlib.figure import Figure

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import number
from saeft_ray.report.render.plots import COLOURS, INK, MARKERS, WIDTH, Plot, plain, style, to_svg


def draw(report: Report) -> dict[str, Plot]:
    """A curve for each method that was run at several strengths, a point for each that has none."""
    found = report.strengths
    if found is None:
        return {}
    with style("strength"):
        figure = Figure(figsize=(WIDTH, 3.9))
        plane, over_kl = figure.subplots(1, 2)
        for position, curve in enumerate(found.curves):
            look = {"color": COLOURS[position % len(COLOURS)], "marker": MARKERS[position % len(MARKERS)]}
            ood = [100 * point.ood for point in curve.points]
            plane.plot(
                [_percent(point.id) for point in curve.points], ood, markersize=4, linewidth=1.2,
                label=plain(curve.method), **look,
            )  # fmt: skip
            over_kl.plot([max(point.kl, 1e-4) for point in curve.points], ood, markersize=4, linewidth=1.2, **look)
        for name, point in found.ends.items():
            if point.id is None:
                continue
            at = (100 * point.id, 100 * point.ood)
            plane.scatter(*at, s=40, color=INK, marker="*", zorder=3)
            plane.annotate(plain(name), at, xytext=(4, 4), textcoords="offset points")
        plane.set_xlabel(plain(f"ID {report.metric}, %"))
        plane.set_ylabel(plain(f"{report.endpoint}: {report.metric}, %"))
        over_kl.set_xscale("log")
        over_kl.set_xlabel("KL to the frozen model, nats")
        for panel in (plane, over_kl):
            panel.grid(color=INK, alpha=0.12, linewidth=0.6)
        plane.legend(frameon=False, fontsize=8)
        spoken = (
            f"{c.method} from KL {number(c.points[0].kl, 3)}, OOD {number(100 * c.points[0].ood, 1)} to KL "
            f"{number(c.points[-1].kl, 3)}, OOD {number(100 * c.points[-1].ood, 1)}"
            for c in found.curves
        )
        return {"strength": to_svg(figure, "strength", f"Accuracy over strengths: {'; '.join(spoken)}")}


def _percent(share: float | None) -> float:
    """What is not known is not drawn."""
    return math.nan if share is None else 100 * share
