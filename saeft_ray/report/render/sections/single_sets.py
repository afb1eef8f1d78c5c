"""The differences on each OOD set alone."""

from saeft_ray.report.content import Comparison, Report
from saeft_ray.report.numbers import MISSING, in_list, pp
from saeft_ray.report.render.blocks import Bullets, Section, TableCell, Text, table
from saeft_ray.report.render.phrases import MARKS

ORDER = 60


def section(report: Report) -> Section | None:
    """A table of differences and a sentence per method."""
    if not report.shifts:
        return None
    cells = {c.method: tuple(s for s in report.shifts if s.method == c.method) for c in report.primary}
    note = (
        f"Secondary: {report.shifts[0].family_size} hypotheses, {corrected(report.shifts)}. Differences from "
        f"{report.baseline} in pp; ▲ better, ▼ worse, unmarked undecided."
    )
    labels = {c.method: c.label for c in report.primary}
    differences = table(
        ("method", *report.ood_sets), [(labels[method], *map(_cell, found)) for method, found in cells.items()]
    )
    words = tuple(f"{labels[method]}: {in_words(found)}." for method, found in cells.items() if found)
    return Section(
        title="Single OOD sets",
        blocks=(Text(words=note, style="note"), differences, Bullets(lines=words, style="note")),
    )


def _cell(c: Comparison) -> TableCell:
    if c.paired is None:
        return TableCell(words=MISSING, verdict=c.verdict)
    mark = "" if c.verdict == "undecided" else f" {MARKS[c.verdict]}"
    return TableCell(words=pp(c.paired.mean, signed=True) + mark, verdict=c.verdict)


def in_words(comparisons: tuple[Comparison, ...]) -> str:
    """Say in one sentence what the single OOD sets show about one method."""
    groups: dict[str, list[str]] = {}
    for c in comparisons:
        groups.setdefault(c.verdict, []).append(c.datasets[0])
    phrases = {"better": "better on", "worse": "worse on", "equivalent": "equivalent on", "identical": "identical on"}
    parts = [f"{text} {in_list(groups[v])}" for v, text in phrases.items() if v in groups]
    if "undecided" in groups:
        parts.append(f"no statement on {in_list(groups['undecided'])}")
    return "; ".join(parts)


def corrected(comparisons: tuple[Comparison, ...]) -> str:
    """Say how the p-values of one family were corrected, for a note."""
    if any(c.correction == "looks" for c in comparisons):
        return "Holm over all of them, at p-values that hold for any look"
    if any(c.correction == "max-T" for c in comparisons):
        return "step-down max-T over all of them, by flipping whole seeds"
    return "Holm over all of them"
