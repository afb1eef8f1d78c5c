"""The plots of a report, as SVG text, and from that as PDF and PNG: the same bytes for the same numbers.

Lines and letters are drawn in a placeholder colour that becomes `currentColor`, so a plot inside the page follows its
light or dark scheme; `standalone` fixes the colours for a file of its own.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from saeft_ray.report.content import Comparison, Report
from saeft_ray.report.numbers import in_list, number
from saeft_ray.report.render.phrases import named, sequential_comparisons

INK = "#010203"
# No green and no red: those are verdicts.
COLOURS = ("#6b7f99", "#d9822b", "#25a3b0", "#8e63ce", "#3b7dd8", "#d0589b", "#9a8a2e", "#8a6f5c")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH = 6.0
_DOTS = 200  # an inch of a PNG
VERDICTCOLOURS = {
    "better": "#2e9e6b", "worse": "#c9473f", "equivalent": "#3b7dd8", "identical": "#3b7dd8", "undecided": "#8b8f98",
}  # fmt: skip
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 10,
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7, "axes.unicode_minus": True,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "figure.constrained_layout.use": True,
}  # fmt: skip


def style(name: str) -> AbstractContextManager[None]:
    """How every plot looks; `name` makes its bytes the same every time."""
    return matplotlib.rc_context(cast(Any, {**_STYLE, "svg.hashsalt": name}))


class Plot(str):
    """The SVG text of a figure, which can be drawn as a file for a paper or for slides too."""

    figure: Figure

    def as_file(self, form: Literal["pdf", "png"]) -> bytes:
        """The figure on white, the same bytes for the same numbers; a PDF's letters stay text, a PNG has 200 dots an
        inch."""
        out = io.BytesIO()
        dated = {"Creator": None, "Producer": None, "CreationDate": None} if form == "pdf" else {"Software": None}
        with style(form), matplotlib.rc_context({"pdf.fonttype": 42}), _letters_of_others():
            self.figure.savefig(out, format=form, metadata=dated, dpi=_DOTS, facecolor="#ffffff")
        return out.getvalue()


def draw(report: Report) -> dict[str, Plot]:
    """Every plot that `report` has numbers for, as SVG text by name."""
    drawn = {
        "forest": forest(report), "shifts": shifts(report), "slopes": slopes(report), "plane": plane(report),
        "looks": looks(report), "search": search(report),
    }  # fmt: skip
    return {name: svg for name, svg in drawn.items() if svg is not None}


def standalone(svg: str) -> str:
    """`svg` as a file of its own: black on white whatever the viewer."""
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg.replace(
        "<svg ", '<svg style="color:#1c1e21;background:#ffffff" ', 1
    )


def forest(report: Report) -> Plot | None:
    """Differences from the baseline on the primary endpoint, with their intervals and every seed."""
    shown = [c for c in report.primary if c.paired is not None]
    if not shown:
        return None
    with style("forest"):
        figure = Figure(figsize=(WIDTH, 0.75 + 0.48 * len(shown)))
        axes = figure.subplots()
        for y, c in enumerate(reversed(shown)):
            _interval(axes, c, y)
        if report.margin is not None:
            axes.axvspan(-100 * report.margin, 100 * report.margin, color=INK, alpha=0.07, linewidth=0)
        _differences_axis(axes, [c.label for c in reversed(shown)], f"difference from {report.baseline}, pp")
        label = f"Differences from {report.baseline} on {report.endpoint}: " + "; ".join(map(_spoken, shown))
        return to_svg(figure, "forest", label)


def shifts(report: Report) -> Plot | None:
    """The same on every OOD set: a group of methods per set; hollow where undecided."""
    shown = [c for c in report.shifts if c.paired is not None]
    sets = [d for d in report.ood_sets if any(c.datasets == (d,) for c in shown)]
    if len(sets) < 2:
        return None
    looks = _looks(report)
    methods = [name for name in looks if any(c.method == name for c in shown)]
    step = 1 / (len(methods) + 1.2)
    with style("shifts"):
        figure = Figure(figsize=(WIDTH, 0.9 + len(sets) * (0.22 + 0.12 * len(methods))))
        axes = figure.subplots()
        for row, dataset in enumerate(reversed(sets)):
            for c in shown:
                if c.datasets == (dataset,):
                    y = row + step * ((len(methods) - 1) / 2 - methods.index(c.method))
                    _marked(axes, c, y, *looks[c.method], label=c.label if row == 0 else None)
            if row:
                axes.axhline(row - 0.5, color=INK, alpha=0.12, linewidth=0.6)
        _differences_axis(axes, list(reversed(sets)), f"difference from {report.baseline}, pp")
        _legend(axes)
        return to_svg(figure, "shifts", f"Differences from {report.baseline} on each OOD set, with intervals")


def slopes(report: Report) -> Plot | None:
    """For each method a panel with one line per seed, from the baseline's score to the method's."""
    shown = [c for c in report.primary if c.points]
    if not shown:
        return None
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    with style("slopes"):
        figure = Figure(figsize=(WIDTH, 2.15 * lines + 0.1))
        grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for panel, c in zip(grid.flat, shown, strict=False):
            ends = np.array([[100 * p.against, 100 * p.method] for p in c.points])
            segments = [[(0, before), (1, after)] for before, after in ends]
            colour = VERDICTCOLOURS[c.verdict]
            panel.add_collection(LineCollection(segments, colors=colour, linewidths=1.2, alpha=0.85))
            panel.scatter([0, 1] * len(ends), ends.ravel(), s=16, color=colour, alpha=0.85, linewidths=0)
            panel.set_xticks([0, 1], [plain(_short(c.against)), plain(_short(c.method))])
            panel.set_xlim(-0.3, 1.3)
            _quiet(panel)
        for panel in list(grid.flat)[len(shown) :]:
            panel.set_visible(False)
        for row in grid:
            row[0].set_ylabel(plain(f"{report.metric}, %"))
        spoken = "; ".join(f"{c.method}: {c.paired.wins} of {c.paired.n} seeds rise" for c in shown if c.paired)
        return to_svg(figure, "slopes", f"{report.endpoint} by seed, from {report.baseline} to each method. {spoken}")


def plane(report: Report) -> Plot | None:
    """ID accuracy against mean OOD accuracy: every seed, and each method's mean."""
    shown = [m for m in report.methods if m.id and m.ood and set(m.id.seeds) & set(m.ood.seeds)]
    if not shown:
        return None
    with style("plane"):
        figure = Figure(figsize=(WIDTH, 4.3))
        axes = figure.subplots()
        spoken = []
        looks = _looks(report)
        mean_of = {}
        for method in shown:
            if method.id is None or method.ood is None:
                continue
            x, y = (dict(zip(cell.seeds, cell.values, strict=True)) for cell in (method.id, method.ood))
            both = [seed for seed in x if seed in y]
            xs, ys = [100 * x[seed] for seed in both], [100 * y[seed] for seed in both]
            mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
            mean_of[method.name] = mean_x, mean_y
            colour, marker = looks[method.name]
            axes.scatter(xs, ys, s=22, color=colour, marker=marker, alpha=0.45, linewidths=0)
            axes.scatter(
                [mean_x], [mean_y], s=95, color=colour, marker=marker, edgecolors=INK, linewidths=0.9, zorder=3,
                label=plain(method.name),
            )  # fmt: skip
            spoken.append(f"{method.name} ID {number(mean_x, 1)}, OOD {number(mean_y, 1)}")
        for curve in report.curves:
            at = [mean_of[name] for name in curve.methods if name in mean_of]
            axes.plot([x for x, _ in at], [y for _, y in at], color=INK, alpha=0.55, linewidth=1, zorder=1)
            spoken.append(f"a line joins {in_list(curve.methods)}")
        _standard(axes, report)
        axes.set_xlabel(plain(f"{report.metric} on {in_list(report.id_sets)}, %"))
        axes.set_ylabel(plain(f"mean OOD {report.metric}, %"))
        axes.grid(color=INK, alpha=0.12, linewidth=0.6)
        _legend(axes)
        _quiet(axes)
        return to_svg(figure, "plane", f"ID against mean OOD {report.metric} in %: " + "; ".join(spoken))


def _standard(axes: Axes, report: Report) -> None:
    """The mean of the declared lines of standard models, where every OOD set has one."""
    if not report.lines or set(report.lines) != set(report.ood_sets):
        return
    (left, right), ends = axes.get_xlim(), axes.get_ylim()
    x = np.linspace(max(left, 0.1), min(right, 99.9), 60)
    y = np.mean([line.at(x / 100) for line in report.lines.values()], axis=0)
    axes.plot(x, 100 * y, color=INK, alpha=0.5, linewidth=1, linestyle=":", label="standard models", zorder=1)
    axes.set_xlim(left, right)
    axes.set_ylim(min(ends[0], 100 * float(y.min())), max(ends[1], 100 * float(y.max())))


def looks(report: Report) -> Plot | None:
    """For each method that ran until decided a panel with |t| at its looks and the boundary it had to reach."""
    shown = [
        c
        for c in sequential_comparisons(report)
        if c.course and any(k.t is not None and k.boundary for k in c.course.looks)
    ]
    if not shown:
        return None
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    with style("looks"):
        figure = Figure(figsize=(WIDTH, 2.0 * lines + 0.3))
        grid = figure.subplots(lines, columns, squeeze=False)
        spoken = []
        for panel, c in zip(grid.flat, shown, strict=False):
            assert c.course is not None
            known = [(k.n, abs(k.t), k.boundary) for k in c.course.looks if k.t is not None and k.boundary]
            n, t, boundary = zip(*known, strict=True)
            # The marks show a boundary of which only one step was reached.
            panel.step(n, boundary, where="mid", color=INK, linewidth=1, alpha=0.6, marker="_", markersize=9)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            # An endless t would flatten the rest.
            top = 1.6 * max(boundary)
            panel.plot(
                n, [min(v, top) for v in t], color=VERDICTCOLOURS[c.verdict], marker="o", markersize=3.5, linewidth=1.2
            )
            panel.set_xlim(c.course.first - 0.7, c.course.last + 0.7)
            panel.set_ylim(0, 1.05 * top)
            panel.set_title(plain(named(c, report.baseline).replace(" against ", "\nagainst ")), fontsize=9)
            panel.set_xlabel("seeds", fontsize=9)
            _quiet(panel)
            reached = f"{number(t[-1], 1)} of {number(boundary[-1], 1)} at seed {n[-1]}"
            spoken.append(f"{named(c, report.baseline)} {reached}, {c.verdict}")
        for panel in list(grid.flat)[len(shown) :]:
            panel.set_visible(False)
        return to_svg(figure, "looks", "Size of t against its boundary: " + "; ".join(spoken))


def search(report: Report) -> Plot | None:
    """For each searched method a panel with its scores in order, the best so far, and the expected best of a budget."""
    shown = [(s.method, s.history) for s in report.searches if s.history is not None and s.history.expected_best]
    if not shown:
        return None
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    with style("search"):
        figure = Figure(figsize=(WIDTH, 2.15 * lines + 0.5))
        grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
        spoken = []
        for panel, (method, history) in zip(grid.flat, shown, strict=False):
            done = [
                (s.number + 1, 100 * s.score) for s in history.suggestions if s.status == "ok" and s.score is not None
            ]
            x, y = zip(*done, strict=True)
            stopped = [(s.number + 1, 100 * s.score) for s in history.suggestions if s.status == "stopped" and s.score]
            if stopped:
                panel.scatter(*zip(*stopped, strict=True), s=12, facecolors="none", edgecolors=INK, linewidths=0.7)
            panel.scatter(x, y, s=13, color=INK, alpha=0.5, linewidths=0, label="a finished trial")
            best = np.maximum.accumulate(y)
            panel.step(x, best, where="post", color=COLOURS[1], linewidth=1.4, label="best so far")
            budgets = range(1, len(done) + 1)
            expected = [100 * v for v in history.expected_best]
            panel.plot(budgets, expected, color=COLOURS[4], linewidth=1.2, linestyle="--", label="expected best")
            panel.set_title(plain(method), fontsize=9)
            panel.set_xlabel("trial", fontsize=9)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            _quiet(panel)
            spoken.append(f"{method} best {number(float(best[-1]), 1)} after {len(done)} finished trials")
        for panel in list(grid.flat)[len(shown) :]:
            panel.set_visible(False)
        for row in grid:
            row[0].set_ylabel("selection, %")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside upper center", ncols=3)
        return to_svg(figure, "search", "Scores of each search in order, in %: " + "; ".join(spoken))


def _interval(axes: Axes, c: Comparison, y: float) -> None:
    if c.paired is None:
        return
    colour = VERDICTCOLOURS[c.verdict]
    if c.paired.lo is not None and c.paired.hi is not None:
        axes.plot([100 * c.paired.lo, 100 * c.paired.hi], [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
    at = [100 * (point.method - point.against) for point in c.points]
    axes.scatter(at, [y - 0.24] * len(at), s=9, color=INK, alpha=0.45, linewidths=0)
    axes.scatter([100 * c.paired.mean], [y], s=42, color=colour, zorder=3, linewidths=0)


def _marked(axes: Axes, c: Comparison, y: float, colour: str, marker: str, label: str | None) -> None:
    if c.paired is None:
        return
    if c.paired.lo is not None and c.paired.hi is not None:
        axes.plot([100 * c.paired.lo, 100 * c.paired.hi], [y, y], color=colour, linewidth=1.4, solid_capstyle="round")
    axes.plot(
        [100 * c.paired.mean], [y], color=colour, marker=marker, markersize=5, linestyle="none", zorder=3,
        fillstyle="none" if c.verdict == "undecided" else "full", label=None if label is None else plain(label),
    )  # fmt: skip


def _looks(report: Report) -> dict[str, tuple[str, str]]:
    """Colour and marker of each method, the same in every plot."""
    names = [method.name for method in report.methods]
    return {name: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside upper center", ncols=3)


def _differences_axis(axes: Axes, names: Sequence[str], label: str) -> None:
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(plain(label))
    axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    _quiet(axes)
    axes.spines["left"].set_visible(False)


def _quiet(axes: Axes) -> None:
    axes.tick_params(length=0, labelsize=9)
    axes.set_axisbelow(True)


def _spoken(c: Comparison) -> str:
    if c.paired is None:
        return c.label
    text = f"{c.label} {number(100 * c.paired.mean, 2, signed=True)} pp"
    if c.paired.lo is not None and c.paired.hi is not None:
        text += f" ({number(100 * c.paired.lo, 2)} to {number(100 * c.paired.hi, 2)})"
    return f"{text}, {c.verdict}"


def _short(name: str, longest: int = 12) -> str:
    """Names in two lines where one would run into its neighbour."""
    if len(name) <= longest or "_" not in name:
        return name
    head, _, tail = name.partition("_")
    return f"{head}_\n{tail}"


def plain(text: str | None) -> str:
    """Text in which matplotlib sees no mathematics."""
    plain = (text or "").replace("$", r"\$")
    # A label that opens with an underscore would be left out of the legend.
    return f"\u200b{plain}" if plain.startswith("_") else plain


@contextmanager
def _letters_of_others() -> Iterator[None]:
    """Without a warning for each letter that matplotlib's font has not: in SVG, letters stay letters, and a font of
    whoever looks at it may have them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def to_svg(figure: Figure, name: str, label: str) -> Plot:
    """`figure` as SVG text whose ids begin with `name`; `label` says what it shows."""
    buffer = io.StringIO()
    with _letters_of_others():
        # No date and a fixed salt: the same numbers are the same bytes.
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(INK, "currentColor").replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")
    head = f'<svg role="img" aria-label="{_attribute(label)}" '
    plot = Plot(svg.replace("<svg ", head, 1))
    plot.figure = figure
    return plot


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
