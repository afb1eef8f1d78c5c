"""Which trials of a search end early: successive halving (Li et al., arXiv 1810.05934), as a function of known results.

After epochs 1, 2, 4, … a trial ends whose selection accuracy is below the median of those that reached that epoch
before it. Before it are the suggestions whose results its own suggestion was made from (`search.lag`), so
no order of finishing changes who ends.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from saeft_ray.config.schema import SweepConfig


def cutoffs(config: SweepConfig, earlier: Iterable[Sequence[Mapping[str, Any]]]) -> tuple[tuple[int, float], ...]:
    """Pairs of an epoch and the least selection accuracy with which a trial goes on after it. `earlier` are the epochs
    (`Course.epochs`) of the trials before it."""
    if config.search.early_stopping == "none":
        return ()
    curves = [{epoch["epoch"]: epoch.get("selection") for epoch in epochs} for epochs in earlier]
    found = []
    for rung in _rungs(config.train.epochs):
        if reached := [value for curve in curves if (value := curve.get(rung)) is not None]:
            found.append((rung, median(reached)))
    return tuple(found)


def _rungs(epochs: int) -> Iterator[int]:
    rung = 1
    while rung < epochs:
        yield rung
        rung *= 2
