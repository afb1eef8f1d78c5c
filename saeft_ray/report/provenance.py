"""The origin of a report's numbers: searches, failed runs, code, seeds and settings."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from saeft_ray import stats
from saeft_ray.records.merged import KEY
from saeft_ray.report.content import Fact, Failures
from saeft_ray.report.numbers import count, in_list
from saeft_ray.report.scores import METRIC, Scores, Seed, config
from saeft_ray.report.search_history import history
from saeft_ray.report.searched import PhaseSummary, SearchSummary
from saeft_ray.report.secondary import RESAMPLE_FROM, RESAMPLES
from saeft_ray.report.warnings import _LISTED


def searches(rows: pa.Table, scores: Scores, record: Mapping[str, Any]) -> tuple[SearchSummary, ...]:
    """Describe how each method of `scores` was tuned; methods that were not searched have zero trials."""
    columns = [
        "phase", "method", "configuration", "settings", "seed", "trial", "dataset", "role", "metric", "value", "status"
    ]  # fmt: skip
    found = [row for row in rows.select(columns).to_pylist() if row["phase"] in ("search", "rerank")]
    metric = (config(record).get("search") or {}).get("metric") or METRIC
    declared = config(record).get("methods") or {}
    out = []
    for name, trials in scores.methods.items():
        searched = (record.get("arms") or {}).get(name, name)  # an arm was chosen from the search of its method
        mine = [row for row in found if row["method"] == searched]
        phases = {
            phase: _phase(phase, [row for row in mine if row["phase"] == phase], trials.configuration, metric)
            for phase in ("search", "rerank")
        }
        used = {(row["dataset"], row["role"]) for row in mine if row["role"] != "train"}
        out.append(
            SearchSummary(
                method=name,
                search=phases["search"],
                rerank=phases["rerank"],
                metric=metric,
                selected_on=tuple(sorted(dataset for dataset, _ in used)),
                leaked=tuple(sorted(dataset for dataset, role in used if role in ("id", "ood"))),
                history=history(
                    [row for row in mine if row["phase"] == "search"],
                    record.get("suggestions") or {},
                    declared.get(searched) or {},
                    metric,
                ),
            )
        )
    return tuple(out)


def _phase(phase: str, rows: Sequence[Mapping[str, Any]], chosen: str, metric: str) -> PhaseSummary:
    by_configuration: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: (row["configuration"], row["seed"] or 0, row["dataset"])):
        value = row["value"]
        counts = row["metric"] == metric and row["role"] != "train" and row["status"] == "ok"
        if counts and value is not None and math.isfinite(value):
            by_configuration.setdefault(row["configuration"], []).append(value)
    means = {key: math.fsum(values) / len(values) for key, values in by_configuration.items()}
    return PhaseSummary(
        phase=phase,
        trials=len({row["trial"] for row in rows}),
        configurations=len({row["configuration"] for row in rows}),
        seeds=tuple(sorted({row["seed"] for row in rows if row["seed"] is not None})),
        failed=len({row["trial"] for row in rows if row["status"] == "failed"}),
        stopped=len({row["trial"] for row in rows if row["status"] == "stopped" and row["value"] is not None}),
        on_purpose=len({row["trial"] for row in rows if row["status"] == "stopped" and row["value"] is None}),
        chosen_score=means.get(chosen),
        chosen_seeds=len(by_configuration.get(chosen, ())),
        best_score=max(means.values(), default=None),
        next_score=max((score for key, score in means.items() if key != chosen), default=None),
    )


def failures(scores: Scores) -> tuple[Failures, ...]:
    """Failed and attempted confirm trials by method, and those that somebody stopped."""
    out = []
    for name, trials in scores.methods.items():
        attempts = len(trials.seeds - trials.stopped.keys())
        interval = stats.clopper_pearson(len(trials.failed), attempts)
        if interval is None and not trials.stopped:
            continue
        low, high = interval or (0.0, 1.0)
        out.append(
            Failures(
                method=name,
                failed=len(trials.failed),
                attempts=attempts,
                lo=low,
                hi=high,
                errors=_by_seed(trials.failed),
                stopped=_by_seed(trials.stopped),
            )
        )
    return tuple(out)


def _by_seed(reasons: Mapping[Seed, str]) -> tuple[tuple[Seed, str], ...]:
    return tuple(sorted(reasons.items(), key=lambda item: (item[0] is not None, item[0] or 0)))


def provenance(rows: pa.Table, record: Mapping[str, Any]) -> tuple[Fact, ...]:
    """List where the numbers came from, one fact per line."""
    data, model = record.get("data") or {}, record.get("model") or {}
    phases = rows["phase"].to_pylist()
    trials = len(set(zip(phases, rows["trial"].to_pylist(), strict=True)))
    facts = {
        "sweep": record.get("name"),
        "source": record.get("source"),
        "merged": _merged(record),
        "created": record.get("created"),
        "code commit": record.get("commit"),
        "model": _plain(model),
        "preprocessing": _plain(record.get("preprocessing") or {}),
        "data": data.get("fingerprint"),
        "classes": data.get("classes"),
        "sizes": _plain(data.get("sizes") or {}),
        "registered": _registered(record),
        "rows": f"{rows.num_rows} of {count(trials, 'trial')}",
        "random draws in the statistics": _draws(rows, record),
        "versions": _plain(record.get("versions") or {}),
        "from other packages": _brought(record),
        "Ray": _ray(record.get("ray") or {}),
    }
    return tuple(Fact(name=name, value=str(value)) for name, value in facts.items() if value not in (None, "", {}))


def _brought(record: Mapping[str, Any]) -> str:
    """Methods and data sets that another distribution brought, in one line."""
    found = {**(record.get("methods") or {}), "the data set": record.get("dataset") or {}}
    others = [
        f"{name} ({facts['distribution']} {facts['version']})"
        for name, facts in found.items()
        if facts.get("distribution") not in (None, "saeft_ray")
    ]
    return ", ".join(others)


def _ray(ray: Mapping[str, Any]) -> str:
    """The Ray on which a sweep began, in one line."""
    nodes = [f"{node['name']}: {node['cpus']:g} CPUs, {node['gpus']:g} GPUs" for node in ray.get("nodes", ())]
    return f"{ray.get('address')}, Ray {ray.get('version')}; {'; '.join(nodes)}" if nodes else ""


def _merged(record: Mapping[str, Any]) -> str:
    """What a merge was made of, in one line."""
    parts = [
        f"{each['sweep']} of {each['storage']}, begun {each['created']}, commit {each['commit'] or 'unknown'}: "
        f"{count(each['trials'], 'trial')}, {'with' if each['registered'] else 'without'} a registration"
        for each in record.get(KEY, {}).get("of", ())
    ]
    return "; ".join(parts)


def _registered(record: Mapping[str, Any]) -> str:
    """Say in one line what was fixed before the first confirm trial."""
    known = record.get("registration")
    if known is None:
        return "nothing: what is tested was not fixed in a record before these runs"
    families = [f"{name} {len(pairs)}" for name, pairs in known["families"].items()]
    looks, margin = known["looks"], known["margin"]
    seeds = f"{looks[-1]} seeds" if len(looks) == 1 else f"looks at {looks[0]} to {looks[-1]} seeds"
    return (
        f"before the first confirm trial: mean of {in_list(known['datasets'])}; hypotheses: {in_list(families)}; error "
        f"{known['alpha']:g} per family; margin {'none' if margin is None else f'±{100 * margin:g} pp'}; engine "
        f"{known['engine']}, {seeds}, overrun {known['overrun']}"
    )


def _draws(rows: pa.Table, record: Mapping[str, Any]) -> str:
    registered = record.get("registration") or {}
    engine = registered.get("engine")
    seeds = len(set(rows.filter(pc.equal(rows["phase"], "confirm"))["seed"].to_pylist()) - {None})
    fixed = engine not in ("t", "exact", "anytime")
    drawn = []
    if engine == "exact":
        drawn.append(f"1,999 sign paths of seed {registered['seeds'][0]} for the looks")
    if fixed and seeds > _LISTED:
        drawn.append("9,999 sign patterns of seed 0 where max-T has too many seeds to list all")
    if fixed and seeds >= RESAMPLE_FROM:
        drawn.append(f"{RESAMPLES:,} resamples of seed 0 for how often a method is on the front")
    if record.get("suggestions"):
        drawn.append("39 shuffles of seed 0 for what importance reaches by chance")
    return "; ".join(drawn) or "none: every number is exact or in closed form"


def _plain(mapping: object) -> str:
    if not isinstance(mapping, Mapping):
        return "" if mapping is None else str(mapping)
    return ", ".join(
        f"{key} {value if isinstance(value, str) else json.dumps(value)}" for key, value in mapping.items()
    )
