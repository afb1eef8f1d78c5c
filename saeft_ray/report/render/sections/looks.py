"""The looks of the families that ran until decided."""

from saeft_ray.report.content import Comparison, LookTaken, Report
from saeft_ray.report.numbers import MISSING, count, number, pp
from saeft_ray.report.render.blocks import Column, Plot, Section, Symbol, TableCell, Text, Words, table
from saeft_ray.report.render.phrases import bare_p, named, sequential_comparisons

ORDER = 100


def section(report: Report) -> Section | None:
    """How to read them, their plot, and one line per look."""
    comparisons = sequential_comparisons(report)
    if not comparisons:
        return None
    caption = (
        "The size of t at every look (line) against its boundary (steps). A method that reaches it is decided; a far "
        "larger t is drawn at the top."
    )
    head = (
        "method", "seeds", "pairs", "difference, pp (interval for all looks)", Column(title=Symbol("t")), "boundary",
        Column(title=("sequential ", Symbol("p"))), Column(title="decision", align="left"),
    )  # fmt: skip
    lines: list[tuple[Words | TableCell, ...]] = [
        (named(c, report.baseline), *_cells(look), TableCell(words=look.verdict, verdict=look.verdict))
        for c in comparisons
        if c.course
        for look in c.course.looks
    ]
    blocks = (
        Text(words=how_to_read(comparisons[0], report.alpha)),
        Plot(name="looks", title="The size of t at every look against its boundary", caption=caption),
        table(head, lines, dense=True),
    )
    return Section(title="Looks", blocks=blocks)


def how_to_read(c: Comparison, alpha: float) -> str:
    """Say what a reader must know of a family that ran until decided."""
    if c.course is None:
        return ""
    level = f"{100 * alpha:g} %"
    return (
        f"After every seed from {c.course.first} to {c.course.last} a look was taken; a method got no more seeds once "
        f"it was decided. The boundary is the size of t that decides; over all looks and "
        f"{count(c.family_size, 'method')} the error is {level}. "
        "Intervals and p-values are made for looking often: they hold at every look, and are wider than those for one."
    )


def _cells(look: LookTaken) -> list[str]:
    """One line of the look log: seeds, pairs, difference with its interval, t, boundary, sequential p."""
    difference = MISSING if look.mean is None else pp(look.mean, signed=True)
    if look.lo is not None and look.hi is not None:
        difference += f" ({pp(look.lo)} to {pp(look.hi)})"
    t, boundary = (MISSING if value is None else number(value) for value in (look.t, look.boundary))
    return [str(look.n), str(look.pairs), difference, t, boundary, bare_p(look.p)]
