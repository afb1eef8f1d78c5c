"""The search of a method: its suggestions in order, what a budget of them is worth, and which value mattered.

Only the selection metric takes part. Suggestion numbers come from the ledger (`suggestions` of the sweep's record).
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saeft_ray import stats
from saeft_ray.report.searched import History, Importance, Suggestion

ENOUGH = 20
"""Finished trials from which importances are shown: PED-ANOVA wants five above its quantile."""

_TOP = 0.25
_SHUFFLES = 39


def history(
    rows: Sequence[Mapping[str, Any]], numbers: Mapping[str, int], space: Mapping[str, Any], metric: str
) -> History | None:
    """The search of one method from its rows of the phase `search`; None without suggestion numbers.

    `space` are the method's settings in the sweep file, where a mapping is a value left open.
    """
    open_ = {name: value for name, value in space.items() if isinstance(value, Mapping)}
    found: dict[int, Suggestion] = {}
    for row in rows:
        number = numbers.get(row["trial"])
        if number is None or (row["status"] != "failed" and (row["role"], row["metric"]) != ("selection", metric)):
            continue
        value = row["value"]
        finite = value is not None and np.isfinite(value)
        settings = {name: v for name, v in _settings(row).items() if name in open_}
        found[number] = Suggestion(
            number=number, score=value if finite and row["status"] != "failed" else None, status=row["status"],
            values=settings,
        )  # fmt: skip
    if not found:
        return None
    suggestions = tuple(found[number] for number in sorted(found))
    scores = [s.score for s in suggestions if s.status == "ok" and s.score is not None]
    return History(
        suggestions=suggestions,
        expected_best=tuple(stats.expected_best(scores, b) for b in range(1, len(scores) + 1)),
        importance=_importance(suggestions, open_),
        enough=ENOUGH,
    )


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        value = json.loads(row["settings"])
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _importance(suggestions: Sequence[Suggestion], space: Mapping[str, Any]) -> tuple[Importance, ...]:
    """The share of each open value in reaching the best quarter of the scores, by Optuna's PED-ANOVA (Watanabe et al.
    2023), and the share that it would exceed in one of twenty searches whose scores say nothing."""
    done = [s for s in suggestions if s.status == "ok" and s.score is not None and s.values.keys() == space.keys()]
    if len(space) < 2 or len(done) < ENOUGH:
        return ()
    # Importing Optuna takes a second, which a report without a search need not wait for.
    import optuna

    distributions = {name: _distribution(form, [s.values[name] for s in done]) for name, form in space.items()}

    def shares(scores: Sequence[float]) -> dict[str, float]:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
        for s, score in zip(done, scores, strict=True):
            study.add_trial(
                optuna.create_trial(params=dict(s.values), distributions=dict(distributions), value=float(score))
            )
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=_TOP)
        return optuna.importance.get_param_importances(study, evaluator=evaluator)

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = [s.score for s in done if s.score is not None]
            found = shares(scores)
            generator = np.random.default_rng(0)
            shuffled = [shares(generator.permutation(scores).tolist()) for _ in range(_SHUFFLES)]
    finally:
        optuna.logging.set_verbosity(verbosity)
    # The second largest of 39 is exceeded by one search in twenty.
    chance = {name: sorted(s.get(name, 0.0) for s in shuffled)[-2] for name in space}
    order = sorted(space, key=lambda name: (-found.get(name, 0.0), name))
    return tuple(Importance(name=name, share=float(found.get(name, 0.0)), chance=chance[name]) for name in order)


def _distribution(form: Mapping[str, Any], values: Sequence[float]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if "choices" in form:
        return CategoricalDistribution([float(v) for v in form["choices"]])
    low, high = min(form["low"], *values), max(form["high"], *values)
    return FloatDistribution(low, high, log=bool(form.get("log", True)) and low > 0)
