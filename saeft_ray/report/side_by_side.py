"""Two sweeps side by side: settings that differ, and the methods that both have, paired by seed where that is fair."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa

from saeft_ray.records.differing import ABSENT, differing
from saeft_ray.report.comparisons import Family, Pair, compare
from saeft_ray.report.content import Comparison
from saeft_ray.report.numbers import MISSING, in_list
from saeft_ray.report.scores import Score, Scores, Trials, read_scores

ALPHA = 0.05


class Opened(NamedTuple):
    """A sweep as it was read: its record (`records.read.read_record`) and its rows."""

    record: Mapping[str, Any]
    rows: pa.Table

    @property
    def name(self) -> str:
        return str(self.record["name"])


class Setting(NamedTuple):
    """A setting, or another fact of the record, that differs; as JSON, MISSING where one sweep has none."""

    place: str
    first: str
    second: str


@dataclass(frozen=True)
class SideBySide:
    """`comparisons` are differences first − second by method and endpoint; `refused` says in words what cannot be
    compared, `cautions` what the intervals do not allow for."""

    settings: tuple[Setting, ...]
    comparisons: tuple[Comparison, ...]
    refused: tuple[str, ...]
    cautions: tuple[str, ...]


def side_by_side(first: Opened, second: Opened) -> SideBySide:
    """Compares two sweeps. Raises UserError for rows that contradict each other."""
    settings = tuple(
        Setting(place, _json(a), _json(b)) for place, a, b in differing(_facts(first.record), _facts(second.record))
    )
    if why := _other_world(first.record, second.record):
        return SideBySide(settings, (), (why,), ())
    scores = read_scores(first.rows, first.record), read_scores(second.rows, second.record)
    shared = [label for label in scores[0].methods if label in scores[1].methods]
    if not shared:
        none = f"no method of the same name has confirm trials in both: {_labels(scores[0])} and {_labels(scores[1])}"
        return SideBySide(settings, (), (none,), ())
    refused, found = list[str](), list[Comparison]()
    for endpoint, sets in (("OOD", [s.ood_sets for s in scores]), ("ID", [s.id_sets for s in scores])):
        same, why_not = _same_sets(sets, scores, shared)
        refused += why_not
        if same:
            pairs = tuple(_pair(label, endpoint, same, (first, second), scores) for label in shared)
            found += compare(Family(name="sweeps", pairs=pairs, new_images=False), ALPHA, None)
    refused += [f"{c.method} on {c.endpoint}: {c.refused}" for c in found if c.refused]
    return SideBySide(
        settings, tuple(c for c in found if not c.refused), tuple(refused), tuple(_cautions(first, second))
    )


def _other_world(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """Why no number of the two sweeps can be paired; None if some may be."""
    if first["model"] != second["model"]:
        return "results are not compared: the sweeps tune different models"
    if first["data"]["train"] != second["data"]["train"]:
        return "results are not compared: the sweeps train on different data, so a seed draws other images in each"
    if not set(first["confirm_seeds"]) & set(second["confirm_seeds"]):
        return (
            "results are not compared: the sweeps have no confirm seed in common (`seed` and `confirm.draw` determine "
            "them), so nothing is paired"
        )
    return None


def _same_sets(
    sets: list[tuple[str, ...]], scores: tuple[Scores, Scores], methods: list[str]
) -> tuple[tuple[str, ...], list[str]]:
    """The sets that both sweeps scored on the same images in the same order, and why others are left out."""
    same, refused = [], []
    for name in sets[0]:
        if name not in sets[1]:
            continue
        seen = [{(s.n, s.examples) for label in methods for s in _scores(one, label, name)} for one in scores]
        if seen[0] == seen[1] and len(seen[0]) == 1:
            same.append(name)
        elif seen[0] and seen[1]:
            refused.append(f"{name} is left out: the sweeps scored other images of it")
    if only := sorted(set(sets[0]) ^ set(sets[1])):
        refused.append(f"{in_list(only)} left out: only one of the sweeps has scores there in this role")
    return tuple(same), refused


def _scores(scores: Scores, label: str, dataset: str) -> Iterator[Score]:
    return (by_set[dataset] for by_set in scores.methods[label].scores.values() if dataset in by_set)


def _pair(
    label: str, endpoint: str, sets: tuple[str, ...], sweeps: tuple[Opened, Opened], scores: tuple[Scores, Scores]
) -> Pair:
    first, second = (_named(one.methods[label], sweep) for one, sweep in zip(scores, sweeps, strict=True))
    return Pair(method=first, against=second, endpoint=endpoint, datasets=sets)


def _named(trials: Trials, sweep: Opened) -> Trials:
    return replace(trials, method=f"{trials.method} of {sweep.name}")


def _cautions(first: Opened, second: Opened) -> Iterator[str]:
    yield (
        "this comparison was not registered by either sweep: it is exploratory. Differences are the first sweep minus "
        "the second; p is corrected by Holm within OOD and within ID"
    )
    for sweep in (first, second):
        if isinstance(sweep.record["config"]["confirm"]["seeds"], Mapping):
            yield (
                f"{sweep.name} stopped when its own results were decided, so its number of seeds depends on them: read "
                "these intervals as descriptions"
            )


def _labels(scores: Scores) -> str:
    return in_list(list(scores.methods)) if scores.methods else "none"


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What two sweeps may differ in: the settings, and what was found of model, data and code."""
    config = {name: value for name, value in record["config"].items() if name != "name"}
    data = {name: record["data"][name] for name in ("fingerprint", "train", "sizes", "roles")}
    found = {"model": record["model"], "data": data, "versions": record["versions"], "commit": record["commit"]}
    return {**config, "found": found}


def _json(value: Any) -> str:
    return MISSING if value is ABSENT else json.dumps(value)
