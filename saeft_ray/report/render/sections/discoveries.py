"""Single test sets to look at next, without a verdict."""

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import count, pp
from saeft_ray.report.render.blocks import Section, folded_table
from saeft_ray.report.render.phrases import bare_p

ORDER = 94


def section(report: Report) -> Section | None:
    """One line per cell that is undecided and below the false discovery rate."""
    level = f"{100 * report.alpha:g} %"
    lines = tuple(
        (c.label, c.datasets[0], pp(c.paired.mean, signed=True), bare_p(c.paired.p), bare_p(c.discovery_p))
        for c in report.shifts
        if c.paired is not None and c.discovery_p is not None and c.discovery_p < report.alpha
        if c.verdict == "undecided"
    )
    decided = sum(c.verdict in ("better", "worse") for c in report.shifts)
    return folded_table(
        title=f"For exploration only: further cells at a false discovery rate of {level}",
        text="No verdicts, but places to look at next: single test sets on which nothing is decided, yet which join "
        f"the {count(decided, 'decided cell')} if {level} of all of these may be false on average (Benjamini and "
        "Hochberg).",
        head=("method", "test set", "difference, pp", "p", "adjusted"),
        lines=lines,
    )
