"""Learning curves: what each method's loss and selection accuracy were after each epoch, over its confirm trials."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from saeft_ray.report.content import LearningCurve

_LOSS = "loss."
_Found: TypeAlias = dict[str, dict[int, dict[str, dict[str, float]]]]  # by method, epoch, metric and trial


def learning(epochs: Iterable[Mapping[str, Any]]) -> tuple[LearningCurve, ...]:
    """One curve for each method with at least two epochs. `epochs` are lines of the table `epochs` (records/course.py).

    A loss is the sum of its terms. A number counts where all trials of the method have it. A method that starts from
    another's end point has that one's training, so the same curve is given once, under the first name.
    """
    found: _Found = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for line in epochs:
        if line["phase"] == "confirm":
            found[line["method"]][line["epoch"]][line["metric"]][line["trial"]] = line["value"]
    curves: list[LearningCurve] = []
    for method in sorted(found):
        trials = {trial for epoch in found[method].values() for metric in epoch.values() for trial in metric}
        losses, selections = [], []
        for number in sorted(found[method]):
            epoch = found[method][number]
            terms = [_mean(values, trials) for name, values in sorted(epoch.items()) if name.startswith(_LOSS)]
            known = [term for term in terms if term is not None]
            losses.append((number, sum(known)) if known and len(known) == len(terms) else None)
            selection = _mean(epoch.get("selection", {}), trials)
            selections.append(None if selection is None else (number, selection))
        curve = LearningCurve(
            method=method,
            trials=len(trials),
            loss=tuple(point for point in losses if point is not None),
            selection=tuple(point for point in selections if point is not None),
        )
        same = any((other.loss, other.trials) == (curve.loss, curve.trials) for other in curves)
        if len(curve.loss) > 1 and not same:
            curves.append(curve)
    return tuple(curves)


def _mean(values: Mapping[str, float], trials: set[str]) -> float | None:
    return sum(values[trial] for trial in sorted(trials)) / len(trials) if values.keys() >= trials else None
