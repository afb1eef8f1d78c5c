"""The report for programs and papers: JSON with every number, CSV and LaTeX of the means and the comparisons."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, replace

from saeft_ray.report.content import Cell, Comparison, MethodResults, Report
from saeft_ray.report.numbers import MINUS, number, p_value, percent, pp

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "[": "{[}", "*": "{*}",  # at the start of a row, LaTeX would take these for a part of the row's end before it
}  # fmt: skip
_COLUMNS = [
    "kind", "method", "against", "endpoint", "datasets", "n", "mean", "lo", "hi", "sd", "p", "p_adjusted",
    "family_size", "verdict", "test",
]  # fmt: skip


def as_json(report: Report) -> str:
    """Every number and verdict. Accuracies and differences are fractions. What changed is a file of its own."""
    content = asdict(replace(report, what_changed=None))
    del content["what_changed"]
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(report: Report) -> str:
    """One line per mean (`kind` mean) or comparison (its family), as fractions in full precision."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for method in report.methods:
        for cell in (*method.cells, *([method.ood] if method.ood else []), *method.diagnostic):
            writer.writerow(_filled({"kind": "mean", "method": method.name, "endpoint": cell.dataset, **_mean(cell)}))
    for c in (*report.primary, *report.id, *report.shifts, *report.controls, *report.effective, *report.sensitivity):
        writer.writerow(_filled(_comparison(c)))
    return out.getvalue()


def _mean(cell: Cell) -> dict[str, object]:
    if cell.mean is None:
        return {"n": 0}
    return {"n": cell.mean.n, "mean": cell.mean.mean, "lo": cell.mean.lo, "hi": cell.mean.hi, "sd": cell.mean.sd}


def _comparison(c: Comparison) -> dict[str, object]:
    row: dict[str, object] = {
        "kind": c.family, "method": c.method, "against": c.against, "endpoint": c.endpoint,
        "datasets": " ".join(c.datasets), "n": 0, "p_adjusted": c.p_adjusted, "family_size": c.family_size,
        "verdict": c.verdict,
    }  # fmt: skip
    if c.paired is not None:
        d = c.paired
        row["test"] = "Welch t, unpaired" if c.unpaired else "as tuned" if c.tuned else "paired t"
        row |= {"n": d.n, "mean": d.mean, "lo": d.lo, "hi": d.hi, "sd": d.sd, "p": d.p}
    return row


def _filled(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if value is not None}


def titles(report: Report) -> list[str]:
    """The columns of the results table: the test sets, those that were added later last, then the mean over the OOD
    sets if there are several, and the diagnostic sets."""
    mean = ["mean OOD"] if len(report.ood_sets) > 1 else []
    return [*report.id_sets, *report.ood_sets, *report.added_sets, *mean, *report.diagnostic_sets]


def cells(report: Report, method: MethodResults) -> list[Cell]:
    """The cells of `method` in the order of `titles`."""
    mean = [method.ood] if method.ood is not None and len(report.ood_sets) > 1 else []
    return [*method.cells, *mean, *method.diagnostic]


def decimals(report: Report) -> int:
    """Digits after the point of a percentage: 2 where an interval is narrower than ±0.1, else 1."""
    widths = [c.mean.half_width for m in report.methods for c in m.cells if c.mean and c.mean.half_width is not None]
    return 2 if any(width < 0.001 for width in widths) else 1


def as_latex(report: Report) -> str:
    """A booktabs table of means ± half-widths in %; bold is the whole set not significantly worse than the top."""
    digits, names = decimals(report), titles(report)
    lines = [
        "% needs \\usepackage{booktabs}",
        f"% {_latex(report.metric)} in %, "
        f"mean ± half of the {round(100 * (1 - report.alpha))} % t interval over confirm seeds",
        "% bold: not significantly worse than the best of the column "
        f"({'paired, or unpaired without common seeds' if report.unpaired else 'paired'}, Holm)",
        rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
        r"\toprule",
        _latex_row(["method", *names]),
        r"\midrule",
    ]
    for method in report.methods:
        row = [_latex(method.name)]
        for cell in cells(report, method):
            row.append(_latex_cell(cell, digits))
        lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def differences_as_latex(report: Report) -> str:
    """A booktabs table of the comparisons that the report tests: those with the baseline, then the declared pairs."""
    level = round(100 * (1 - report.alpha))
    lines = [
        "% needs \\usepackage{booktabs}",
        f"% differences in percentage points with their {level} % intervals, paired by seed; p as the verdict takes it",
        r"\begin{tabular}{llrrrrl}",
        r"\toprule",
        _latex_row(["method", "against", "n", "difference", "interval", "p", "verdict"]),
    ]
    for family in (report.primary, report.controls):
        if family:
            lines += [r"\midrule", *(" & ".join(_latex_difference(c)) + r" \\" for c in family)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_difference(c: Comparison) -> list[str]:
    names = [_latex(c.method), _latex(c.against)]
    if c.paired is None:
        return [*names, "0", "--", "--", "--", _latex(c.verdict)]
    mean = f"${pp(c.paired.mean, signed=True)}$".replace(MINUS, "-")
    interval = "--"
    if c.paired.lo is not None and c.paired.hi is not None:
        interval = f"$[{pp(c.paired.lo)}, {pp(c.paired.hi)}]$".replace(MINUS, "-")
    p = "--" if c.p_adjusted is None else f"${p_value(c.p_adjusted).removeprefix('= ')}$"
    return [*names, str(c.paired.n), mean, interval, p, _latex(c.verdict)]


def _latex_cell(cell: Cell, digits: int) -> str:
    if cell.mean is None:
        return "--"
    mean = percent(cell.mean.mean, digits)
    text = rf"\mathbf{{{mean}}}" if cell.leading else mean
    if cell.mean.half_width is not None:
        text += rf" \pm {number(100 * cell.mean.half_width, digits)}"
    return f"${text}$".replace(MINUS, "-")


def _latex_row(names: Iterable[str]) -> str:
    return " & ".join(map(_latex, names)) + r" \\"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)
