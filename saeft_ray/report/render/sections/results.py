"""The accuracy of every method on every test set, and the plots of it."""

from saeft_ray.report.content import Cell, MethodResults, Report
from saeft_ray.report.numbers import MISSING, in_list, percent
from saeft_ray.report.render import exports
from saeft_ray.report.render.blocks import Plot, PlotGrid, Section, Small, Span, Strong, Text, Words, table

ORDER = 50


def section(report: Report) -> Section | None:
    """The results table, its note and four plots."""
    if not report.methods:
        return None
    lines = [_line(report, method) for method in report.methods]
    blocks = (table(("method", "n", *exports.titles(report)), lines), Text(words=_note(report), style="note"))
    return Section(title="Results", blocks=(*blocks, _plots(report)))


def _line(report: Report, method: MethodResults) -> tuple[Words, ...]:
    cells, digits = exports.cells(report, method), exports.decimals(report)
    n = MISSING if method.deterministic else str(max((len(cell.seeds) for cell in cells), default=0))
    return (method.name, n, *(_cell(cell, digits) for cell in cells))


def _cell(cell: Cell, digits: int) -> Words:
    if cell.mean is None:
        return MISSING
    text = percent(cell.mean.mean, digits)
    mean: Span = Strong(text) if cell.leading else text
    return mean if cell.mean.half_width is None else (mean, " ", Small(f"± {percent(cell.mean.half_width, digits)}"))


def _note(report: Report) -> str:
    metric, level = f"{report.metric[:1].upper()}{report.metric[1:]}", round(100 * (1 - report.alpha))
    tested = "paired, or unpaired without common seeds" if report.unpaired else "paired"
    text = (
        f"{metric} in %, mean over n confirm seeds ± half of the {level} % t interval. Bold: "
        f"the whole set that is not significantly worse than the best of its column ({tested}, Holm within the column)."
    )
    if report.diagnostic_sets:
        text += f" {in_list(report.diagnostic_sets)}: shown alone, in no mean and no verdict."
    text += "".join(f" {m.name} has no training, hence no seeds." for m in report.methods if m.deterministic)
    if report.added_sets:
        text += f" {in_list(report.added_sets)} came later and is in no mean."
    derived = " {} is interpolated from checkpoints of another method, without training of its own."
    return text + "".join(derived.format(m.name) for m in report.methods if m.derived)


def _plots(report: Report) -> PlotGrid:
    level, baseline = round(100 * (1 - report.alpha)), report.baseline
    forest = (
        f"Difference from {baseline} on {report.endpoint}: mean (large dot), {level} % interval (bar), every seed "
        "(small dots)." + (" The band is the margin." if report.margin else "")
    )
    slopes = (
        f"One line per seed, from {baseline} to the method, on {report.endpoint}. Parallel lines mean that sharing "
        "seeds removed noise."
    )
    if report.unpaired:
        forest += " Unpaired methods have no seeds to show there."
        slopes += " Methods that share no seed with it have none."
    curve = " A thin line joins the methods between the same two end points, in the order of alpha (WiSE-FT)."
    standard = f" Dotted: where standard models of that ID {report.metric} are expected."
    plane = "Every seed (pale) and each method’s mean. Up and to the right is better."
    plane += (curve if report.curves else "") + (standard if report.lines else "")
    shifts = (
        f"Difference from {baseline} on every OOD set, with {level} % intervals (not corrected). Hollow: undecided."
    )
    return PlotGrid(
        columns=(
            (
                Plot(name="forest", title="Differences from the baseline", caption=forest),
                Plot(name="slopes", title="Baseline and method by seed", caption=slopes),
            ),
            (
                Plot(name="plane", title=f"ID against mean OOD {report.metric}", caption=plane),
                Plot(name="shifts", title="Differences on each OOD set", caption=shifts),
            ),
        )
    )
