"""The confirm runs that failed, and those that somebody stopped."""

from saeft_ray.report.content import Failures, Report
from saeft_ray.report.numbers import MISSING, percent
from saeft_ray.report.render.blocks import Column, Section, Text, Words, table

ORDER = 120


def section(report: Report) -> Section | None:
    """Failed and attempted runs per method, with their errors; runs that were stopped on purpose, with who did it."""
    if not report.failures:
        return None
    counted = f"neither replaced by another seed nor counted as {report.metric} 0"
    note = f"A failed run is {counted}. The interval is Clopper–Pearson."
    head: tuple[str | Column, ...] = ("method", "failed / attempted", "95 % interval of the rate", _wide("errors"))
    title, lines = "Failed runs", [_line(f) for f in report.failures]
    if any(f.stopped for f in report.failures):
        title, head = "Failed and stopped runs", (*head, _wide("stopped on purpose"))
        lines = [(*line, _told(f.stopped)) for line, f in zip(lines, report.failures, strict=True)]
        note = (
            f"A run that failed or was stopped on purpose is {counted}. One that was stopped is no attempt either: "
            "nobody knows how it would have ended. The interval is Clopper–Pearson."
        )
    return Section(title=title, blocks=(table(head, lines), Text(words=note, style="note")))


def _wide(title: str) -> Column:
    return Column(title=title, align="wide")


def _line(f: Failures) -> tuple[Words, ...]:
    return f.method, f"{f.failed} / {f.attempts}", f"{percent(f.lo, 0)} to {percent(f.hi, 0)} %", _told(f.errors)


def _told(reasons: tuple[tuple[int | None, str], ...]) -> str:
    return "; ".join(why if seed is None else f"seed {seed}: {why}" for seed, why in reasons) or MISSING
