"""The report of a sweep: what was found, how sure that is, and what it cost, as one page and in plain files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from saeft_ray.report.build import findings
from saeft_ray.report.content import Report

__all__ = ["Report", "findings", "write_report"]


def write_report(rows: pa.Table, record: Mapping[str, Any], out: Path) -> Report:
    """Write report.html, report.md, report.json, results.csv, results.tex and each plot as SVG into the folder `out`.

    The same rows and record give the same bytes, in whatever order the rows come. An older report there is replaced.
    """
    # Drawing needs matplotlib and jinja2, which whoever only wants the findings need not import.
    from saeft_ray.report.render import exports, plots
    from saeft_ray.report.render.html import render as page
    from saeft_ray.report.render.markdown import render as markdown

    report = findings(rows, record)
    drawn = plots.draw(report)
    files = {
        "report.html": page(report, drawn),
        "report.md": markdown(report, drawn),
        "report.json": exports.as_json(report),
        "results.csv": exports.as_csv(report),
        "results.tex": exports.as_latex(report),
        **{f"{name}.svg": plots.standalone(svg) for name, svg in drawn.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8", newline="\n")
    return report
