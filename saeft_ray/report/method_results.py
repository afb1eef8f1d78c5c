"""The results of every method: its settings, and its mean on every test set."""

import json
from collections.abc import Mapping

from saeft_ray import stats
from saeft_ray.report.column import bare, results_column
from saeft_ray.report.content import Cell, MethodResults
from saeft_ray.report.method_facts import MethodFacts
from saeft_ray.report.scores import Scores, Trials


def methods_of(
    scores: Scores, facts: Mapping[str, MethodFacts], alpha: float, design: stats.Design | None, is_open: bool
) -> tuple[MethodResults, ...]:
    def column(name: str, datasets: tuple[str, ...]) -> dict[str, Cell]:
        cells = results_column(scores, name, datasets, alpha, design)
        return {m: bare(cell) for m, cell in cells.items()} if is_open else cells

    columns = {d: column(d, (d,)) for d in (*scores.datasets, *scores.diagnostic_sets)}
    id_mean = column("ID", scores.id_sets) if scores.id_sets else {}
    ood_mean = column("OOD", scores.ood_sets) if scores.ood_sets else {}
    return tuple(
        MethodResults(
            name=name,
            type=facts[name].type,
            settings=_settings(trials.settings),
            configuration=trials.configuration,
            deterministic=trials.deterministic,
            derived=is_derived(facts[name], trials),
            cells=tuple(columns[d][name] for d in scores.datasets),
            diagnostic=tuple(columns[d][name] for d in scores.diagnostic_sets),
            id=id_mean.get(name),
            ood=ood_mean.get(name),
        )
        for name, trials in scores.methods.items()
    )


def is_derived(facts: MethodFacts, trials: Trials) -> bool:
    """Whether the method's checkpoints are made of another method's."""
    return facts.derived_from is not None or "base" in _settings(trials.settings)


def _settings(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
