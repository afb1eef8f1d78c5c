"""The choice of configurations after search and rerank, by the rules of the sweep file (`config/choose.py`).

A rule sees the selection split alone: accuracies, and how far the answers moved from those of the frozen model.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from saeft_ray.config.choose import Rule
from saeft_ray.errors import Unfinished
from saeft_ray.methods import Method
from saeft_ray.records.rows import KL
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.stats import choice, tied

Measured = Mapping[str, Mapping[str, float | None]]
"""The numbers of each finished trial on the selection split, by metric (`Ledger.selection`, its `numbers`)."""


class Configuration(NamedTuple):
    """One configuration with the means over its seeds: `score` is None if it failed with any. `scores` are those of
    each seed."""

    settings: Method
    score: float | None
    kl: float | None
    scores: tuple[float | None, ...] = ()


class References(NamedTuple):
    """What `keep_gain` measures a gain with: the selection accuracies of plain fine-tuning and of zero-shot."""

    plain: float | None = None
    zero_shot: float | None = None


_NONE = References()


def configurations(specs: Iterable[TrialSpec], measured: Measured) -> dict[str, list[Configuration]]:
    """The configurations of every method in the order in which they were asked. One of which a trial has no result at
    all cannot be chosen. Raises Unfinished for a method without any that can."""
    trials: dict[str, dict[str, list[TrialSpec]]] = defaultdict(lambda: defaultdict(list))
    for spec in specs:
        trials[spec.method][spec.configuration].append(spec)
    found = {}
    for label, each in trials.items():
        known = [same for same in each.values() if all(spec.id in measured for spec in same)]
        if not known:
            raise Unfinished(f"{label}: none of its {len(each)} configurations has results in the storage")
        found[label] = [_of(same, measured) for same in known]
    return found


def chosen_of(
    rule: Rule, given: Sequence[Configuration], images: int, references: References = _NONE, with_tied: bool = False
) -> list[Method]:
    """What `rule` chooses of the configurations `given`; `with_tied`, then all that their seeds cannot tell from it."""
    first = ranked(rule, given, images, references)[0]
    if not with_tied:
        return [first]
    place = next(k for k, each in enumerate(given) if each.settings == first)
    alike = tied(np.array([each.scores for each in given], dtype=np.float64), variance_floor=floor(images), to=place)
    return [given[k].settings for k in alike] or [first]


def floor(images: int) -> float:
    """The least variance of a difference of two accuracies on so many images (docs/statistics.md 5.2)."""
    return 1 / (6 * images**2)


def ranked(rule: Rule, given: Sequence[Configuration], images: int, references: References = _NONE) -> list[Method]:
    """`given` in the order of `rule`, the first one chosen; failed ones last. `images` is the size of the selection
    split."""
    order = said(rule, [each.score for each in given], [each.kl for each in given], images, references).order
    rest = [k for k in range(len(given)) if k not in order]
    return [given[k].settings for k in (*order, *rest)]


def said(
    rule: Rule,
    scores: Sequence[float | None],
    kl: Sequence[float | None],
    images: int,
    references: References = _NONE,
) -> choice.Choice:
    """What `rule` says of configurations with these `scores` and `kl`."""
    if rule.rule == "strongest_within":
        return choice.strongest_within(scores, kl, images, rule.se)
    if rule.rule == "keep_gain":
        return choice.keep_gain(scores, kl, references.plain, references.zero_shot, rule.share)
    return choice.best(scores)


def _of(same: Sequence[TrialSpec], measured: Measured) -> Configuration:
    """The configuration of the trials `same`, one a seed."""
    scores = tuple(measured[spec.id].get("accuracy") for spec in same)
    kl = mean_of([measured[spec.id].get(KL) for spec in same])
    return Configuration(same[0].settings, mean_of(scores), kl, scores)


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean over the seeds of a configuration; None if it failed with any, or was not measured."""
    known = [value for value in values if value is not None]
    return sum(known) / len(values) if known and len(known) == len(values) else None
