"""How each configuration was chosen: the rule, what it gave away, how steady it is, and ranges that were too narrow.

What a rule says is taken again from the rows of the rerank, which hold the selection split alone; what was chosen is
what the confirm phase ran.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeft_ray.config.choose import Rule, arm_of
from saeft_ray.draws import seed_of
from saeft_ray.orchestration.choosing import References, floor, mean_of, said
from saeft_ray.records.rows import KL
from saeft_ray.report.scores import METRIC, config
from saeft_ray.report.strengths import Chosen, Second
from saeft_ray.stats import tied
from saeft_ray.stats.choice_noise import choice_noise
from saeft_ray.stats.runner_up import runner_up

NOISY = 0.9
"""The share of redrawn accuracies below which a choice is called noisy."""
_EDGE = 0.02  # of a range's width, on its own scale
_LEAST_KL = 1e-9  # of a frozen model's own, which has no logarithm


class _Candidate(NamedTuple):
    settings: dict[str, Any]
    score: float | None
    kl: float | None
    scores: tuple[float | None, ...]


_Candidates = Mapping[str, Sequence[_Candidate]]


def choices(rows: pa.Table, record: Mapping[str, Any]) -> tuple[Chosen, ...]:
    """The choice of every method with open values that was ranked again, of every further rule, and of every repeat of
    the search."""
    declared, rules = config(record).get("methods") or {}, rules_of(record)
    images = ((record.get("data") or {}).get("sizes") or {}).get("selection")
    if not images:
        return ()
    arms = [(label, rules[0], label) for label in declared]
    arms += [(arm, _rule_of(arm, label, rules), label) for arm, label in (record.get("arms") or {}).items()]
    everything = _candidates(rows, None)
    references, repeats = _references(everything, declared), _seeds_of_repeats(record)
    by_repeat = [everything if used is None else _candidates(rows, used) for used in repeats]
    seeds, out = tuple(record.get("confirm_seeds") or ()), []
    for arm, rule, label in arms:
        ranked = [repeat for repeat, found in enumerate(by_repeat) if label in found and _open(declared[label])]
        for repeat in ranked:
            name = f"{arm}, search {repeat + 1} of {len(repeats)}" if len(ranked) > 1 else arm
            ran = _confirmed(rows, arm, seeds[repeat : repeat + 1])
            out.append(_chosen(name, rule, by_repeat[repeat][label], declared[label], images, references, ran))
    return tuple(out)


def _seeds_of_repeats(record: Mapping[str, Any]) -> list[set[int] | None]:
    """The seeds of the rerank of each repeat of the search; None for all there are, where it is not repeated."""
    sweep = config(record)
    repeats = (sweep.get("search") or {}).get("repeats", 1)
    if repeats == 1:
        return [None]
    return [
        {seed_of("rerank", sweep["seed"], i * repeats + repeat) for i in range(sweep["rerank"]["seeds"])}
        for repeat in range(repeats)
    ]


def rules_of(record: Mapping[str, Any]) -> list[Rule]:
    """The rules of a sweep; that of every sweep before there were others."""
    return [Rule.model_validate(each) for each in config(record).get("choose") or [{}]]


def _rule_of(arm: str, label: str, rules: Sequence[Rule]) -> Rule:
    return next(rule for rule in rules if arm == arm_of(label, rule))


def _candidates(rows: pa.Table, seeds: set[int] | None) -> dict[str, list[_Candidate]]:
    """The configurations that were ranked again with `seeds` by method, in order of configuration."""
    found = rows.filter(pc.and_(pc.equal(rows["phase"], "rerank"), pc.equal(rows["role"], "selection")))
    values: dict[tuple[str, str], dict[tuple[str, int | None], float | None]] = {}
    settings: dict[tuple[str, str], dict[str, Any]] = {}
    for row in found.select(["method", "configuration", "settings", "seed", "metric", "value", "status"]).to_pylist():
        if row["metric"] in (METRIC, KL) and (seeds is None or row["seed"] in seeds):
            key = (row["method"], row["configuration"])
            settings[key] = json.loads(row["settings"])
            measured = values.setdefault(key, {})
            measured[row["metric"], row["seed"]] = row["value"] if row["status"] == "ok" else None
    used: dict[str, set[int | None]] = {}
    for (method, _), measured in values.items():
        used.setdefault(method, set()).update(seed for _, seed in measured)
    out: dict[str, list[_Candidate]] = {}
    for key, measured in sorted(values.items()):
        score, kl = (mean_of([v for (name, _), v in measured.items() if name == metric]) for metric in (METRIC, KL))
        scores = tuple(measured.get((METRIC, seed)) for seed in sorted(used[key[0]], key=str))
        out.setdefault(key[0], []).append(_Candidate(settings[key], score, kl, scores))
    return out


def _confirmed(rows: pa.Table, name: str, seeds: Sequence[int]) -> dict[str, Any] | None:
    """The settings that the confirm phase ran of method `name` with one of `seeds`, or with any if none is given."""
    found = rows.filter(pc.and_(pc.equal(rows["phase"], "confirm"), pc.equal(rows["method"], name)))
    if seeds:
        found = found.filter(pc.is_in(found["seed"], pa.array(seeds, found["seed"].type)))
    return json.loads(found["settings"][0].as_py()) if len(found) else None


def _references(found: _Candidates, declared: Mapping[str, Any]) -> References:
    by_type = {(settings or {}).get("type", label): label for label, settings in reversed(list(declared.items()))}
    plain, zero_shot = (found.get(by_type.get(kind, ""), ()) for kind in ("ft", "zero_shot"))
    return References(plain[0].score if plain else None, zero_shot[0].score if zero_shot else None)


def _chosen(
    name: str,
    rule: Rule,
    given: Sequence[_Candidate],
    declared: Mapping[str, Any],
    images: int,
    references: References,
    confirmed: Mapping[str, Any] | None,
) -> Chosen:
    scores, kl = [each.score for each in given], [each.kl for each in given]
    what = said(rule, scores, kl, images, references)
    now = given[what.chosen] if what.chosen is not None else None
    taken = next((each for each in given if each.settings == confirmed), now)
    best = given[what.best] if what.best is not None else None
    if rule.rule == "best" and taken and best and taken.score == best.score:
        best = taken  # of equals the sweep took the one that was asked first
    return Chosen(
        method=name,
        rule=rule.in_words,
        configurations=len(given),
        eligible=what.eligible,
        threshold=what.threshold,
        score=taken.score if taken else None,
        kl=taken.kl if taken else None,
        best_score=best.score if best else None,
        best_values=_numbers(best.settings, declared) if best else "",
        is_best=taken is best,
        steady=_steady(rule, given, images, references),
        fallback=what.fallback,
        edges=tuple(_edges(taken.settings, declared)) if taken else (),
        runner_up=_runner_up(given, taken, what.order, declared, images),
        alike=len(tied(_by_seed(given), variance_floor=floor(images), to=given.index(taken))[1:]) if taken else 0,
    )


def _runner_up(
    given: Sequence[_Candidate],
    taken: _Candidate | None,
    order: Sequence[int],
    declared: Mapping[str, Any],
    images: int,
) -> Second | None:
    """What the rule has next to `taken`, and how far its accuracy over the rerank's seeds is from that one's."""
    if taken is None:
        return None
    first = given.index(taken)
    found = runner_up(_by_seed(given), floor(images), [first, *(k for k in order if k != first)])
    if found is None or found.best != first:
        return None
    return Second(_numbers(given[found.second].settings, declared), -found.lead, found.se)


def _by_seed(given: Sequence[_Candidate]) -> NDArray[np.float64]:
    return np.array([each.scores for each in given], dtype=np.float64)


def _steady(rule: Rule, given: Sequence[_Candidate], images: int, references: References) -> float | None:
    """How often redrawn accuracies choose about the same strength (`stats/choice_noise.py`)."""
    if len(given) < 2 or any(each.kl is None for each in given if each.score is not None):
        return None
    kl = [max(each.kl or 0.0, _LEAST_KL) for each in given]
    noise = choice_noise(
        lambda scores: said(rule, scores, kl, images, references),
        [each.score for each in given],
        kl,
        images,
        np.random.default_rng(0),
    )
    return noise.steady if noise else None


def _open(settings: Mapping[str, Any]) -> list[str]:
    return [name for name, value in (settings or {}).items() if isinstance(value, Mapping)]


def _numbers(settings: Mapping[str, Any], declared: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {settings[name]:.4g}" for name in _open(declared) if name in settings)


def _edges(settings: Mapping[str, Any], declared: Mapping[str, Any]) -> Iterable[str]:
    """Which open values were chosen at an end of their range, in words."""
    for name in _open(declared):
        space, value = declared[name], settings.get(name)
        if "choices" in space or value is None or space["high"] <= space["low"]:
            continue
        scale = math.log if space.get("log", True) and space["low"] > 0 and value > 0 else float
        low, high, at = scale(space["low"]), scale(space["high"]), scale(value)
        for end, distance in (("low", at - low), ("high", high - at)):
            if distance <= _EDGE * (high - low):
                yield f"{name} = {value:.4g} is at the {end} end of {space['low']:g} to {space['high']:g}"
