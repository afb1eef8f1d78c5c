"""Phrases that several sections or plots share."""

from saeft_ray.report.content import Comparison, Report, Verdict
from saeft_ray.report.numbers import MISSING, p_value, pp

MARKS: dict[Verdict, str] = {"better": "▲", "worse": "▼", "equivalent": "≈", "identical": "=", "undecided": "?"}


def difference(c: Comparison) -> str:
    """`+4.22 pp (3.87 to 4.57)`."""
    if c.paired is None:
        return MISSING
    text = f"{pp(c.paired.mean, signed=True)} pp"
    if c.paired.lo is not None and c.paired.hi is not None:
        text += f" ({pp(c.paired.lo)} to {pp(c.paired.hi)})"
    return text


def sequential_comparisons(report: Report) -> list[Comparison]:
    """The comparisons that ran until decided: those with the baseline, then the declared pairs."""
    return [c for c in (*report.primary, *report.controls) if c.course is not None]


def named(c: Comparison, baseline: str | None) -> str:
    """The method, and what it is compared with unless that is the baseline."""
    return c.method if c.against == baseline else f"{c.method} against {c.against}"


def bare_p(p: float | None) -> str:
    """The p-value of a table's cell: without the sign of equality."""
    return p_value(p).removeprefix("= ")
