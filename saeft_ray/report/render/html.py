"""The report as one HTML file that needs nothing else."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from saeft_ray.report.content import Report
from saeft_ray.report.render import blocks, phrases
from saeft_ray.report.render.sections import sections


def render(report: Report, drawn: Mapping[str, str]) -> str:
    """The page, with the SVG plots of `drawn` inside. Every text from the sweep is escaped."""
    script = (Path(__file__).parent / "sort.js").read_text(encoding="utf-8")
    return _template().render(
        name=report.name,
        sections=sections(report),
        spans=blocks.spans,
        marks=phrases.MARKS,
        # Our own drawings, whose text matplotlib has escaped.
        plots={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704
        # The one script that the page's own policy lets run.
        script=Markup(script),  # noqa: S704
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html")
