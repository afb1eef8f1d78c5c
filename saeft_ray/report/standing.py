"""What a method is before anything is compared: fine-tuned, a reference that was not, or one that nothing moved."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from saeft_ray.report.method_facts import MethodFacts
from saeft_ray.report.scores import Scores, Trials


@dataclass(frozen=True, kw_only=True)
class Standing:
    """`references` were not fine-tuned. `unmoved` maps a method to the reference whose scores it has on every test set
    and seed, up to `TOLERANCE` or one image. `at_chance` are no better than guessing on any test set.

    In digit world the scores with `lambda_mse: 1e30` differ by at most 0.3 pp from the frozen model's on each set,
    those with 1e6 by 0.4 and those with 3,000, which do learn, by up to 2.4.
    """

    references: tuple[str, ...]
    unmoved: dict[str, str]
    at_chance: tuple[str, ...]
    TOLERANCE: ClassVar[float] = 0.005

    def idle(self, *methods: str) -> bool:
        """Whether nothing can be learned of one of `methods`, since it did not move or only guesses."""
        return bool({*methods} & {*self.unmoved, *self.at_chance})


def standing(scores: Scores, facts: Mapping[str, MethodFacts], classes: int | None) -> Standing:
    """What each method of `scores` is; `classes` is their number, where it is known."""
    references = tuple(name for name, trials in scores.methods.items() if _is_reference(facts[name], trials))
    unmoved = {
        name: frozen
        for name, trials in scores.methods.items()
        if name not in references
        for frozen in references
        if _same(trials, scores.methods[frozen])
    }
    chance = tuple(
        name
        for name in scores.methods
        if classes and scores.datasets and all(at_chance(scores, name, d, classes) for d in scores.datasets)
    )
    return Standing(references=references, unmoved=unmoved, at_chance=chance)


def at_chance(scores: Scores, method: str, dataset: str, classes: int) -> bool:
    """Whether the method's mean accuracy there is at most two standard errors above one in `classes`.

    The standard error is that of guessing on the images of the set; without their number the two are 1 pp. A test set
    that has fewer classes than the sweep has a higher chance level, which is not known here.
    """
    found = [scored[dataset] for scored in scores.methods[method].scores.values() if dataset in scored]
    if not found:
        return False
    chance, n = 1 / classes, found[0].n
    two = 2 * math.sqrt(chance * (1 - chance) / n) if n else 0.01
    return math.fsum(score.value for score in found) / len(found) <= chance + two


def _is_reference(facts: MethodFacts, trials: Trials) -> bool:
    """Frozen, or without a training of its own and without that of another method: a probe trains its head. In a table,
    also one whose seeds all score alike."""
    untrained = trials.deterministic and facts.derived_from is None and facts.family != "probe"
    return facts.family == "frozen" or untrained or (facts.type == "table" and _constant(trials))


def _constant(trials: Trials) -> bool:
    """Whether three seeds or more have the same score on every test set: what no training does."""
    found = [{dataset: score.value for dataset, score in scores.items()} for scores in trials.scores.values() if scores]
    return len(found) >= 3 and all(each == found[0] for each in found)


def _same(trials: Trials, frozen: Trials) -> bool:
    known: Mapping[str, Any] = next((scores for scores in frozen.scores.values() if scores), {})
    scored = [scores for scores in trials.scores.values() if scores]
    return bool(scored and known) and all(
        d in known and abs(score.value - known[d].value) <= max(Standing.TOLERANCE, 1 / (score.n or math.inf)) + 1e-9
        for scores in scored
        for d, score in scores.items()
    )
