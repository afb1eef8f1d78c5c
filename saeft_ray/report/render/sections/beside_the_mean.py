"""Descriptions of the differences in addition to their mean."""

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import MISSING, percent, pp
from saeft_ray.report.render.blocks import Section, folded_table

ORDER = 92


def section(report: Report) -> Section | None:
    """One line per comparison with the baseline."""
    lines: list[tuple[str, ...]] = []
    for d in report.described:
        ends = MISSING if d.lo is None or d.hi is None else f"{percent(d.lo, 0)} to {percent(d.hi, 0)} %"
        lines.append((d.method, str(d.n), pp(d.iqm, signed=True), f"{percent(d.improvement, 0)} %", ends))
    return folded_table(
        title="Beside the mean",
        text="Descriptions; none of them decides anything. IQM: mean of the paired differences over seeds and test "
        "sets without the lowest and highest quarter, in pp; it does not see a gain on one test set alone. Share that "
        "rises: of the seeds, a tie counting half, with its exact interval; fewer than ten seeds say little.",
        head=("method", "pairs", "IQM, pp", "share that rises", "95 % CI"),
        lines=lines,
    )
