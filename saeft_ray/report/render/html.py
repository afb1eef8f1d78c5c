"""The report as one HTML file that needs nothing else."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from saeft_ray.report.content import Report
from saeft_ray.report.render import blocks, phrases
from saeft_ray.report.render.feature_html import drawing
from saeft_ray.report.render.sections import sections
from saeft_ray.report.render.thumbnails import Album, Thumbnails

_PICTURES = 600_000  # bytes of pictures in the report; the page of all features has more


def render(report: Report, drawn: Mapping[str, str], thumbnails: Thumbnails | None = None) -> str:
    """The page, with the SVG plots of `drawn` and the images of `thumbnails` inside. Every text from the sweep is
    escaped."""
    script = (Path(__file__).parent / "sort.js").read_text(encoding="utf-8")
    return (
        environment()
        .get_template("page.html")
        .render(
            name=report.name,
            sections=sections(report),
            spans=blocks.spans,
            marks=phrases.MARKS,
            # Our own drawings, whose text matplotlib has escaped.
            plots={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704
            # The one script that the page's own policy lets run.
            script=Markup(script),  # noqa: S704
            script_hash=script_hash(script),
            album=Album(thumbnails, _PICTURES) if report.what_changed else None,
            drawing=drawing,
        )
    )


def script_hash(script: str) -> str:
    """What the page's policy knows its one script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


@cache
def environment() -> Environment:
    """The templates of this folder, in which every text is escaped."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
