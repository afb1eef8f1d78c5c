"""The confirm runs that failed."""

from saeft_ray.report.content import Failures, Report
from saeft_ray.report.numbers import MISSING, percent
from saeft_ray.report.render.blocks import Column, Section, Text, Words, table

ORDER = 120


def section(report: Report) -> Section | None:
    """Failed and attempted runs per method, with their errors."""
    if not report.failures:
        return None
    counted = f"neither replaced by another seed nor counted as {report.metric} 0"
    note = f"A failed run is {counted}. The interval is Clopper–Pearson."
    head = ("method", "failed / attempted", "95 % interval of the rate", Column(title="errors", align="wide"))
    blocks = (table(head, [_line(f) for f in report.failures]), Text(words=note, style="note"))
    return Section(title="Failed runs", blocks=blocks)


def _line(f: Failures) -> tuple[Words, ...]:
    errors = "; ".join(error if seed is None else f"seed {seed}: {error}" for seed, error in f.errors)
    return f.method, f"{f.failed} / {f.attempts}", f"{percent(f.lo, 0)} to {percent(f.hi, 0)} %", errors or MISSING
