"""The similarities of what changed as heat maps: a row per method, a column per test set or per block."""

from collections.abc import Callable
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from saeft_ray.features.content import Similarity, WhatChanged
from saeft_ray.report.numbers import MISSING, number
from saeft_ray.report.render import balance, shortcut_pictures
from saeft_ray.report.render.plots import INK, Plot, plain, style, to_svg
from saeft_ray.report.render.thumbnails import Thumbnails

COLOURS = LinearSegmentedColormap.from_list("similarity", ["#1b5e8c", "#7fb3d5", "#f2f6f9"])
_DARK = 0.45


def draw(what: WhatChanged | None, thumbnails: Thumbnails | None = None) -> dict[str, Plot]:
    """The heat maps, the balance and the shortcuts that `what` has numbers and images for, as SVG text by name."""
    if what is None:
        return {}
    embedding = [s for s in what.similarities if s.site == "embedding"]
    blocks = [s for s in what.similarities if s.site != "embedding"]
    drawn = {
        "balance": balance.draw(what),
        shortcut_pictures.NAME: shortcut_pictures.draw(what, thumbnails),
        "similarity": _heat_map("similarity", embedding, lambda s: s.dataset),
        "similarity_blocks": _heat_map("similarity_blocks", blocks, lambda s: s.site),
    }
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _heat_map(name: str, given: list[Similarity], column: Callable[[Similarity], str]) -> Plot | None:
    cells: dict[tuple[str, str], list[float]] = {}
    rows = list(dict.fromkeys(map(_row, given)))
    columns = list(dict.fromkeys(map(column, given)))
    for s in given:
        if s.unbiased is not None:
            cells.setdefault((_row(s), column(s)), []).append(s.unbiased)
    if not cells:
        return None
    means = {at: fmean(values) for at, values in cells.items()}
    # The colour starts at the smallest value or .8: small changes must not look large.
    low = min(0.8, *means.values())
    with style(name):
        figure = Figure(figsize=(1.8 + 0.62 * len(columns), 0.95 + 0.34 * len(rows)))
        axes = figure.subplots()
        for y, row in enumerate(rows):
            for x, title in enumerate(columns):
                _cell(axes, x, y, means.get((row, title)), low)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xticks(
            range(len(columns)), [plain(title) for title in columns], rotation=35, ha="right", rotation_mode="anchor"
        )
        axes.set_yticks(range(len(rows)), [plain(row) for row in rows])
        axes.tick_params(length=0, labelsize=9)
        axes.spines[:].set_visible(False)
        spoken = "; ".join(f"{row} on {title} {number(value)}" for (row, title), value in means.items())
        return to_svg(figure, name, f"Unbiased linear CKA: {spoken}")


def _row(s: Similarity) -> str:
    return s.method if s.against == "frozen" else f"{s.method} against {s.against}"


def _cell(axes: Axes, x: int, y: int, value: float | None, low: float) -> None:
    if value is None:
        axes.text(x, y, MISSING, ha="center", va="center", fontsize=8.5, color=INK)
        return
    place = (value - low) / max(1 - low, 1e-9)
    axes.fill_between([x - 0.48, x + 0.48], y - 0.46, y + 0.46, color=COLOURS(min(max(place, 0.0), 1.0)), linewidth=0)
    # Fixed colours: the cell's own is the same on a light and on a dark page.
    ink = "#ffffff" if place < _DARK else "#1c1e21"
    axes.text(x, y, number(value, 3), ha="center", va="center", fontsize=8.5, color=ink)
