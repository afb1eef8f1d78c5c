"""The report of a sweep: what was found, how sure that is, and what it cost, as one page and in plain files."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from saeft_ray.errors import Damaged, UserError
from saeft_ray.features.content import WhatChanged
from saeft_ray.features.files import JSON, PAGE, stored
from saeft_ray.records.course import epochs_table
from saeft_ray.records.merged import KEY
from saeft_ray.records.read import file_exists, read_file, read_record, read_trials, rows_of, write_file
from saeft_ray.report.build import findings
from saeft_ray.report.content import Report
from saeft_ray.storage.location import Location

if TYPE_CHECKING:
    from saeft_ray.orchestration.plan import Plan
    from saeft_ray.report.render.thumbnails import Thumbnails

_log = logging.getLogger(__name__)
__all__ = ["Report", "WrittenReport", "findings", "report_sweep", "write_features", "write_report"]


class WrittenReport(NamedTuple):
    """A report and where it was written; `complete` if its sweep has no work left."""

    report: Report
    folder: str
    complete: bool

    @property
    def page(self) -> str:
        """The path or URL of report.html."""
        return f"{self.folder}/report.html"


def write_report(
    rows: pa.Table,
    record: Mapping[str, Any],
    out: Path,
    what_changed: WhatChanged | None = None,
    thumbnails: "Thumbnails | None" = None,
) -> Report:
    """Write report.html, report.md, report.json, results.csv, results.tex, differences.tex and each plot as SVG, PDF
    and PNG into the folder `out`.

    With `what_changed` also features.html, features.json, features.csv and features.md; `thumbnails` gives their
    images.

    The same rows and record give the same bytes, in whatever order the rows come. An older report there is replaced.
    Raises UserError if `out` cannot be written.
    """
    # Drawing needs matplotlib and jinja2, which whoever only wants the findings need not import.
    from saeft_ray.report.render import exports, features_page, heat_map, learning_plot, plots, strength_plot
    from saeft_ray.report.render.html import render as page
    from saeft_ray.report.render.markdown import render as markdown

    report = findings(rows, record, what_changed)
    drawn = (
        plots.draw(report)
        | strength_plot.draw(report)
        | learning_plot.draw(report)
        | heat_map.draw(what_changed, thumbnails)
    )
    files: dict[str, str | bytes] = {
        "report.html": page(report, drawn, thumbnails),
        "report.md": markdown(report, drawn),
        "report.json": exports.as_json(report),
        "results.csv": exports.as_csv(report),
        "results.tex": exports.as_latex(report),
        "differences.tex": exports.differences_as_latex(report),
        **{f"{name}.svg": plots.standalone(plot) for name, plot in drawn.items()},
        **{f"{name}.pdf": plot.as_file("pdf") for name, plot in drawn.items()},
        **{f"{name}.png": plot.as_file("png") for name, plot in drawn.items()},
        **(features_page.files(what_changed, thumbnails) if what_changed else {}),
    }
    _write(files, out)
    return report


def write_features(found: WhatChanged, plan: "Plan", place: Path | str, endpoint: str | None = None) -> None:
    """Writes features.html, features.json, features.csv and features.md into the folder or URL `place`. Raises
    UserError if they cannot be written there."""
    from saeft_ray.report.render import features_page
    from saeft_ray.report.render.plan_images import images_of

    files = features_page.files(found, images_of(plan))
    if Location(str(place), endpoint).local:
        _write(files, Path(place))
    else:
        for name, text in files.items():
            write_file(str(place), name, text.encode(), endpoint)


def report_sweep(storage: str, out: Path | None = None, endpoint: str | None = None) -> WrittenReport:
    """Writes the report of the sweep in the folder or URL `storage`, into `report/` there or into the local folder
    `out`; with what changed, where that was found, and its images where the data are at hand.
    Raises UserError if there is no sweep or its rows contradict each other, Damaged as `read_rows`."""
    storage = storage.rstrip("/")
    record, trials = read_record(storage, endpoint), read_trials(storage, endpoint)
    record["epochs"], rows = epochs_table(trials).to_pylist(), rows_of(trials)
    what_changed = _stored(storage, endpoint)
    thumbnails = _images(storage, endpoint) if what_changed else None
    place = f"{storage}/report" if out is None else str(out)
    if out is not None:
        report = write_report(rows, record, out, what_changed, thumbnails)
    else:
        with tempfile.TemporaryDirectory() as folder:
            report = write_report(rows, record, Path(folder), what_changed, thumbnails)
            kept = thumbnails is None and _shows(place, Path(folder), endpoint)
            for path in sorted(Path(folder).iterdir()):
                if kept and path.name == PAGE:
                    continue
                write_file(place, path.name, path.read_bytes(), endpoint)
    return WrittenReport(report, place, complete=bool({"registration", KEY} & record.keys()) and not report.waits)


def _shows(place: str, folder: Path, endpoint: str | None) -> bool:
    """Whether the page at `place` shows what that in `folder` does: then it may have images that cannot be read now."""
    if not (file_exists(place, PAGE, endpoint) and file_exists(place, JSON, endpoint)):
        return False
    return (folder / JSON).exists() and read_file(place, JSON, endpoint) == (folder / JSON).read_bytes()


def _write(files: Mapping[str, str | bytes], out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (out / name).write_bytes(content.encode() if isinstance(content, str) else content)
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise UserError(f"{out}: no report can be written there ({error}); give a folder you may write to") from error


def _stored(storage: str, endpoint: str | None) -> WhatChanged | None:
    try:
        return stored(storage, endpoint)
    except Damaged as error:
        # A report must not be lost for one section.
        _log.warning("the report has no section on what changed: %s", error)
        return None


def _images(storage: str, endpoint: str | None) -> "Thumbnails | None":
    from saeft_ray.orchestration.reopen import reopen
    from saeft_ray.report.render.plan_images import images_of

    try:
        return images_of(reopen(storage, endpoint)[0])
    except UserError as error:
        _log.warning("the report has no images: %s", error)
        return None
