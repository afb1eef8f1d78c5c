"""Every number of every comparison."""

from saeft_ray import stats
from saeft_ray.report.content import Comparison, Report
from saeft_ray.report.numbers import MISSING, number, percent, pp
from saeft_ray.report.render.blocks import Block, Chip, Column, Section, Span, Symbol, Table, TableCell, Text, table
from saeft_ray.report.render.phrases import bare_p, difference
from saeft_ray.report.verdicts import ASKED

ORDER = 80
_RHO, _P = Symbol("ρ"), Symbol("p")


def section(report: Report) -> Section | None:
    """One table per family, and what its columns mean."""
    if not report.primary and not report.controls:
        return None
    level = round(100 * (1 - report.alpha))
    families = (
        (f"Primary: {report.endpoint}, against {report.baseline}.", report.primary),
        (f"ID {report.metric} ({', '.join(report.id_sets)}), shown apart and never averaged in.", report.id),
        (f"{_pairs(report.controls)}, a family of their own: {report.endpoint}.", report.controls),
        (
            f"Effective robustness, against {report.baseline}; here “means” are {report.metric} beyond the line.",
            report.effective,
        ),
        (f"Sensitivity: the primary comparisons if every {_lacking(report)} is scored as a guess.", report.sensitivity),
    )
    blocks: list[Block] = []
    for note, comparisons in families:
        if comparisons:
            with_other = comparisons is report.controls
            blocks += [Text(words=note, style="note"), _table(comparisons, level, with_other)]
    if any(c.correction == "looks" for c in report.primary):
        text = (
            "Intervals and p-values here hold at every look (repeated intervals or confidence sequences); the interval "
            "over new images and the exact test have no such form and are left out."
        )
        blocks.append(Text(words=text, style="note"))
    if report.unpaired:
        why = "; ".join(dict.fromkeys(str(c.unpaired) for c in report.unpaired))
        text = (
            f"Unpaired: {why}. Their interval and p are those of Welch’s t with df of its own, “pairs” are the runs of "
            "each, and what only pairs have is left out. Each family is corrected as a whole, paired and unpaired."
        )
        blocks.append(Text(words=text, style="note"))
    blocks.append(Text(words=_columns(report), style="note"))
    return Section(title="All numbers of the comparisons", blocks=tuple(blocks))


def _pairs(controls: tuple[Comparison, ...]) -> str:
    who = list(dict.fromkeys(ASKED[c.family] for c in controls if c.family in ASKED))
    return f"Pairs {'; '.join(who)}"


def _columns(report: Report) -> tuple[Span, ...]:
    enough = [
        f" For {c.method}, more seeds would not help beyond {c.new_images.enough_seeds}."
        for c in report.primary
        if c.new_images and c.paired and c.new_images.enough_seeds is not None
        if c.paired.n >= c.new_images.enough_seeds
    ]
    return (
        "sd, ", Symbol("d", "z"), ", skew: spread, standardised mean and skewness of the differences over seeds. ",
        _RHO, ": correlation of the two methods over seeds. + / − / =: seeds that rise, fall, tie. flip ", _P,
        ": exact sign-flip test. New images: interval for new seeds and new images of the same kind (seeds × items).",
        *enough,
    )  # fmt: skip


def _table(comparisons: tuple[Comparison, ...], level: int, with_other: bool) -> Table:
    other = (Column(title="against", align="left"),) if with_other else ()
    head = (
        "method", *other, Column(title="verdict", align="left"), "pairs", "means, %", f"difference, pp ({level} % CI)",
        "new images", "sd", Column(title=Symbol("d", "z")), Column(title=_RHO), "+ / − / =", "skew",
        Column(title=_P), Column(title=("Holm ", _P)), Column(title=("flip ", _P)),
    )  # fmt: skip
    lines: list[tuple[TableCell, ...]] = []
    for c in comparisons:
        names = (c.label, c.against) if with_other else (c.label,)
        start = (*(TableCell(words=name) for name in names), TableCell(words=Chip(c.verdict)))
        lines.append((*start, *_numbers(c)))
    return table(head, list(lines), dense=True)


def _numbers(c: Comparison) -> tuple[TableCell, ...]:
    d = c.paired
    if d is None:
        return (TableCell(words=f"not compared: {c.refused}", span=12),)
    new = MISSING if c.new_images is None else f"{pp(c.new_images.lo)} to {pp(c.new_images.hi)}"
    pairs = f"{d.n_a} | {d.n_b} runs, df {_or_dash(d.df, 1)}" if isinstance(d, stats.Welch) else str(d.n)
    cells = (
        pairs, f"{percent(d.mean_a, 2)} | {percent(d.mean_b, 2)}", difference(c).replace(" pp", ""), new,
        MISSING if d.sd is None else pp(d.sd), _or_dash(d.d_z, 1), _or_dash(d.rho, 2),
        MISSING if c.unpaired else f"{d.wins} / {d.losses} / {d.ties}", _or_dash(d.skewness, 1),
        bare_p(d.p), bare_p(c.p_adjusted), bare_p(d.sign_flip_p),
    )  # fmt: skip
    return tuple(TableCell(words=cell) for cell in cells)


def _or_dash(value: float | None, decimals: int) -> str:
    return MISSING if value is None else number(value, decimals)


def _lacking(report: Report) -> str:
    return "failed or stopped run" if any(f.stopped for f in report.failures) else "failed run"
