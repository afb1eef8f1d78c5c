"""Warnings about noise: what the number of images cannot resolve, and scores that are suspiciously alike."""

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

from saeft_ray.report.numbers import in_list, number, pp
from saeft_ray.report.scores import Scores, config, metric_of
from saeft_ray.report.searched import SearchSummary
from saeft_ray.report.standing import at_chance

RESOLUTION = 0.002
"""What one image may be worth where no margin is declared, as a fraction. The accuracy of plain fine-tuning has a
standard deviation of 0.3 to 2.8 pp over the seeds of digit world (sets of 860 to 1,000 images); below 500 images the
rounding to whole images comes near the smallest of these."""

_ALIKE = 3
"""Equal accuracies of fewer runs may be an accident."""

Found = Iterable[tuple[str, str]]


def rules(scores: Scores, record: Mapping[str, Any], tuned: Sequence[SearchSummary]) -> Found:
    """(rule, text) of every warning about noise."""
    yield from _selection(record, tuned)
    yield from _few_images(scores, record)
    yield from _chance(scores, record)
    yield from _alike(scores, metric_of(record))


def _resolution(record: Mapping[str, Any]) -> float:
    return float((config(record).get("report") or {}).get("margin") or RESOLUTION)


def _sizes(record: Mapping[str, Any]) -> Mapping[str, int]:
    return (record.get("data") or {}).get("sizes") or {}


def _selection(record: Mapping[str, Any], tuned: Sequence[SearchSummary]) -> Found:
    """One image of the selection split weighs too much, or the finalists lie within one image of each other."""
    searched = [search for search in tuned if search.search.trials or search.rerank.trials]
    n = _sizes(record).get("selection")
    if not searched or not n:
        return
    if 1 / n > _resolution(record):
        yield (
            "small selection split",
            f"Configurations were chosen on {n} images, of which one is worth {pp(1 / n)} pp; an accuracy of 90 % has "
            f"a standard error of {pp(math.sqrt(0.09 / n))} pp there. Other images might choose other configurations.",
        )
    tied = []
    for search in searched:
        last = search.rerank if search.rerank.trials else search.search
        both = last.chosen_score, last.next_score
        if both[0] is not None and both[1] is not None and abs(both[0] - both[1]) <= 1 / n:
            tied.append(f"{search.method} ({pp(abs(both[0] - both[1]))} pp)")
    if tied:
        yield (
            "tied finalists",
            f"The two best configurations differ by no more than one selection image ({pp(1 / n)} pp) for "
            f"{in_list(tied)}: which of them was taken is chance.",
        )


def _few_images(scores: Scores, record: Mapping[str, Any]) -> Found:
    few = []
    for dataset in scores.datasets:
        n = _images(scores, dataset) or _sizes(record).get(dataset)
        if n and 1 / n > _resolution(record):
            few.append(f"{dataset} ({n} images, one is worth {pp(1 / n)} pp)")
    if few:
        yield (
            "few test images",
            f"Small test sets: {in_list(few)}. More seeds do not make up for images; see the intervals for new images.",
        )


def _images(scores: Scores, dataset: str) -> int | None:
    every = (scored[dataset].n for t in scores.methods.values() for scored in t.scores.values() if dataset in scored)
    return next((n for n in every if n is not None), None)


def _chance(scores: Scores, record: Mapping[str, Any]) -> Found:
    classes = (record.get("data") or {}).get("classes")
    if not classes or not scores.methods:
        return
    guessed = [d for d in scores.datasets if all(at_chance(scores, name, d, classes) for name in _scored(scores, d))]
    if guessed:
        yield (
            "test set at chance",
            f"No method is better than guessing among {classes} classes ({number(100 / classes, 1)} %) on "
            f"{in_list(guessed)}: differences there are noise, and they are part of every mean. Look at its labels and "
            "class folders.",
        )


def _scored(scores: Scores, dataset: str) -> Collection[str]:
    return [name for name, t in scores.methods.items() if any(dataset in scored for scored in t.scores.values())]


def _alike(scores: Scores, metric: str) -> Found:
    """Methods, seeds or test sets whose scores are all the same."""
    values = {
        name: {(seed, d): score.value for seed, scored in trials.scores.items() for d, score in scored.items()}
        for name, trials in scores.methods.items()
    }
    if twins := _groups({name: tuple(sorted(found.items(), key=str)) for name, found in values.items() if found}):
        yield (
            "identical scores",
            f"Identical scores on every seed and test set: {twins}. Methods that train differently hardly ever agree "
            "to the last image: look whether their settings act, and whether one was copied.",
        )
    by_seed = {
        name: [{d: score.value for d, score in scored.items()} for scored in trials.scores.values()]
        for name, trials in scores.methods.items()
    }
    idle = [n for n, runs in by_seed.items() if len(runs) >= _ALIKE and all(run == runs[0] for run in runs)]
    if idle:
        yield (
            "identical seeds",
            f"The same scores with every seed: {in_list(idle)}. The seed changes nothing there, or one run was copied; "
            "such runs are one run, and their intervals mean nothing.",
        )
    by_set: dict[str, tuple[Hashable, ...]] = {}
    for d in scores.datasets:
        of_set = tuple((name, seed, v) for name, found in values.items() for (seed, s), v in found.items() if s == d)
        if len({v for _, _, v in of_set}) >= _ALIKE:
            by_set[d] = of_set
    if copies := _groups(by_set):
        yield (
            "identical test sets",
            f"Every run has the same {metric} on {copies}: they seem to be the same images, counted twice in a mean.",
        )


def _groups(keyed: Mapping[str, Hashable]) -> str:
    """The names that share a key, as words; empty where none do."""
    found: dict[Hashable, list[str]] = {}
    for name, key in keyed.items():
        found.setdefault(key, []).append(name)
    return "; ".join(in_list(names) for names in found.values() if len(names) > 1)
