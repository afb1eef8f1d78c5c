"""The report as Markdown, with the same content as the page."""

import re
from collections.abc import Iterable, Mapping, Sequence

from saeft_ray.report import numbers
from saeft_ray.report.content import Cell, Comparison, Report
from saeft_ray.report.render import exports, phrases
from saeft_ray.report.render.extra_sections import asides, effective_note

_CAPTIONS = {
    "forest": "Differences from the baseline with intervals and every seed",
    "plane": "ID against mean OOD accuracy, every seed",
    "slopes": "One line a seed, from the baseline to each method",
    "shifts": "Differences on each OOD set",
    "looks": "The size of t at every look against its boundary",
}


def render(report: Report, drawn: Mapping[str, str]) -> str:
    """The report; the plots of `drawn` are linked as files beside it."""
    level = round(100 * (1 - report.alpha))
    out = [f"# {_text(report.name)}"]
    if report.open:
        out += ["**Open:** no verdict before the rule says so. Trials are still to come."]
    out += [_text(report.headline)]
    out += [f"**How to read this.** {_text(phrases.how_to_read(report.baseline, report.alpha, report.source))}"]
    if report.primary:
        out += [
            "## Verdicts",
            _bullets(f"**{_text(c.method)}: {c.verdict}.** {_text(c.sentence)}" for c in report.primary),
        ]
    if report.warnings:
        out += ["## Before you conclude anything", _bullets(_text(w.text) for w in report.warnings)]
    if report.load_bearing:
        out += ["## Is the SAE load-bearing?", *(_text(control.answer) for control in report.load_bearing)]
    if pairs := phrases.declared(report):
        told = [f"**{_text(c.method)} against {_text(c.against)}: {c.verdict}.** {_text(c.sentence)}" for c in pairs]
        out += ["## Declared pairs", _bullets(told)]
    if report.methods:
        out += ["## Results", _results(report), _text(_note(report, level))]
    out += [f"![{caption}]({name}.svg)" for name, caption in _CAPTIONS.items() if name in drawn]
    if report.shifts:
        out += ["## Single OOD sets", *_shifts(report)]
    if report.effective:
        out += ["## Effective robustness", _text(effective_note(report))]
        out += [_bullets(_text(c.sentence) for c in report.effective)]
    families = [
        (f"Primary: {report.endpoint}", report.primary),
        ("ID accuracy", report.id),
        ("Declared pairs and controls", report.controls),
        ("Effective robustness", report.effective),
        ("Sensitivity: failed runs scored as a guess", report.sensitivity),
    ]
    if any(comparisons for _, comparisons in families):
        out += ["## All numbers of the comparisons"]
        for title, comparisons in families:
            if comparisons:
                out += [f"### {_text(title)}", _statistics(comparisons, level)]
    for aside in asides(report):
        out += [f"### {_text(aside.title)}", _text(aside.text), _table(aside.head, aside.lines)]
    sequential_comparisons = phrases.sequential_comparisons(report)
    if sequential_comparisons:
        lines = [
            [phrases.named(c, report.baseline), *phrases.look_cells(look), look.verdict]
            for c in sequential_comparisons
            if c.course
            for look in c.course.looks
        ]
        head = ["method", "seeds", "pairs", "difference, pp (interval for all looks)", "t", "boundary", "sequential p"]
        out += ["## Looks", _text(phrases.how_to_read_looks(sequential_comparisons[0], report.alpha))]
        out += [_table([*head, "decision"], lines)]
    if report.searches:
        out += ["## Selection and budget", _searches(report)]
        out += ["Scores that chose a configuration are optimistic and are not evidence."]
        if "search" in drawn:
            out += ["![Scores of each search in order](search.svg)", phrases.HOW_TO_READ_SEARCH]
        if mattered := [line for line in map(phrases.which_value_mattered, report.searches) if line]:
            out += [phrases.HOW_TO_READ_IMPORTANCE, _bullets(map(_text, mattered))]
    if report.failures:
        out += ["## Failed runs", _failures(report)]
        out += ["A failed run is neither replaced by another seed nor counted as accuracy 0."]
    seeds = ", ".join(map(str, report.confirm_seeds)) or "none"
    facts = [*((fact.name, fact.value) for fact in report.provenance), ("confirm seeds", seeds)]
    out += ["## Provenance", _bullets(f"{name}: {_text(value)}" for name, value in facts)]
    return "\n\n".join(out) + "\n"


def _results(report: Report) -> str:
    digits, names = exports.decimals(report), exports.titles(report)
    lines = []
    for method in report.methods:
        cells = exports.cells(report, method)
        n = numbers.MISSING if method.deterministic else str(max((len(cell.seeds) for cell in cells), default=0))
        lines.append([method.name, n, *(_mean(cell, digits) for cell in cells)])
    return _table(["method", "n", *names], lines)


def _mean(cell: Cell, digits: int) -> str:
    if cell.mean is None:
        return numbers.MISSING
    text = numbers.percent(cell.mean.mean, digits)
    text = f"**{text}**" if cell.leading else text
    return text if cell.mean.half_width is None else f"{text} ± {numbers.percent(cell.mean.half_width, digits)}"


def _note(report: Report, level: int) -> str:
    text = (
        f"Accuracy in %, mean over n confirm seeds ± half of the {level} % t interval. Bold: the whole set that is not "
        "significantly worse than the best of its column (paired, Holm within the column)."
    )
    for method in report.methods:
        if method.deterministic:
            text += f" {method.name} has no training, hence no seeds."
        if method.derived:
            text += f" {method.name} is interpolated from checkpoints of another method, without training of its own."
    return text


def _shifts(report: Report) -> Iterable[str]:
    by_method = {c.method: tuple(s for s in report.shifts if s.method == c.method) for c in report.primary}
    size = report.shifts[0].family_size
    start = (
        f"Differences from {_text(str(report.baseline))} in pp; {size} hypotheses, {phrases.corrected(report.shifts)}."
    )
    yield f"{start} ▲ better, ▼ worse, unmarked undecided."
    lines = [[method, *(_shift(s) for s in cells)] for method, cells in by_method.items()]
    yield _table(["method", *report.ood_sets], lines)
    yield _bullets(
        f"{_text(method)}: {_text(phrases.secondary(cells))}." for method, cells in by_method.items() if cells
    )


def _shift(c: Comparison) -> str:
    if c.paired is None:
        return numbers.MISSING
    mark = "" if c.verdict == "undecided" else f" {phrases.MARKS[c.verdict]}"
    return numbers.pp(c.paired.mean, signed=True) + mark


def _statistics(comparisons: Sequence[Comparison], level: int) -> str:
    lines = []
    for c in comparisons:
        d = c.paired
        if d is None:
            lines.append([c.method, c.against, "0", f"not compared: {c.refused}", *[numbers.MISSING] * 6, c.verdict])
            continue
        new = numbers.MISSING
        if c.new_images is not None:
            new = f"{numbers.pp(c.new_images.lo)} to {numbers.pp(c.new_images.hi)}"
        lines.append(
            [
                c.method, c.against, str(d.n), phrases.difference(c), new, _or_dash(d.d_z, 1), _or_dash(d.rho, 2),
                f"{d.wins}/{d.losses}/{d.ties}", numbers.p_value(d.p).removeprefix("= "),
                numbers.p_value(c.p_adjusted).removeprefix("= "), c.verdict,
            ]
        )  # fmt: skip
    head = ["method", "against", "pairs", f"difference ({level} % CI)", "new images", "d_z", "ρ", "+/−/=", "p", "Holm"]
    return _table([*head, "verdict"], lines)


def _searches(report: Report) -> str:
    settings = {method.name: phrases.settings(method.settings) for method in report.methods}
    lines = [
        [
            s.method,
            phrases.spent(s),
            settings.get(s.method, numbers.MISSING),
            phrases.chosen(s.search),
            phrases.chosen(s.rerank),
        ]
        for s in report.searches
    ]
    return _table(["method", "spent", "chosen settings", "its score in search, %", "in rerank, %"], lines)


def _failures(report: Report) -> str:
    lines = []
    for f in report.failures:
        errors = "; ".join(f"seed {seed}: {error}" if seed is not None else error for seed, error in f.errors)
        rate = f"{numbers.percent(f.lo, 0)} to {numbers.percent(f.hi, 0)} %"
        lines.append([f.method, f"{f.failed} / {f.attempts}", rate, errors or numbers.MISSING])
    return _table(["method", "failed / attempted", "95 % interval of the rate", "errors"], lines)


def _or_dash(value: float | None, decimals: int) -> str:
    return numbers.MISSING if value is None else numbers.number(value, decimals)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join("| " + " | ".join(_text(cell) for cell in row) + " |" for row in rows)


def _text(text: str) -> str:
    """Text that Markdown shows as it is; the asterisks of our own bold numbers stay."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|").replace("\n", " ")
    return re.sub(r"([`\[\]_])", r"\\\1", plain)
