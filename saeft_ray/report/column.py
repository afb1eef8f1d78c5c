"""One column of the results table: every method on one test set or mean, and which of them lead there."""

from dataclasses import replace

from saeft_ray import stats
from saeft_ray.report.as_tuned import mean_as_tuned
from saeft_ray.report.comparisons import Family, compare, pairs_of
from saeft_ray.report.content import Cell
from saeft_ray.report.scores import Scores


def results_column(
    scores: Scores, name: str, datasets: tuple[str, ...], alpha: float, design: stats.Design | None
) -> dict[str, Cell]:
    """The cells of the column `name` by method, with its leading set: all that is not significantly worse than the
    best mean (paired, Holm within the column). Nothing leads where nothing could be tested."""
    cells: dict[str, Cell] = {}
    for method, trials in scores.methods.items():
        values = trials.means(datasets)
        sizes = [score[d].n for score in trials.scores.values() for d in datasets if d in score]
        floor = sum(1 / (12 * n * n) for n in sizes if n) / max(1, len(sizes)) / len(datasets) if all(sizes) else 0.0
        mean = stats.mean_interval(list(values.values()), 1 - alpha, floor) if values else None
        if mean is not None and trials.choices > 1:
            found = mean_as_tuned(trials, values, 1 - alpha)
            mean = replace(mean, lo=found.lo, hi=found.hi)
        cells[method] = Cell(dataset=name, mean=mean, seeds=tuple(values), values=tuple(values.values()), leading=False)
    filled = {method: cell.mean.mean for method, cell in cells.items() if cell.mean is not None}
    if not filled:
        return cells
    top = max(filled, key=lambda method: filled[method])
    pairs = pairs_of(scores, [(top, m) for m in filled if m != top], name, datasets)
    ranked = compare(Family(name="column", pairs=pairs, new_images=False, design=design), alpha, None)
    tested = [c for c in ranked if c.p_adjusted is not None]
    leading = {c.against for c in tested if c.verdict != "better"} | ({top} if tested else set())
    return {method: replace(cell, leading=method in leading) for method, cell in cells.items()}


def bare(cell: Cell) -> Cell:
    """A mean of an open sweep, with no interval and no rank: these would be read as a verdict."""
    mean = None if cell.mean is None else replace(cell.mean, sd=None, lo=None, hi=None)
    return replace(cell, mean=mean, leading=False)
