"""Methods at equal strength: their curves of accuracy over the KL to the frozen model, and what differs at one KL.

Strength is how far a method's answers on the selection split moved from those of the frozen model. It sees no label of
a test set, and no test set chooses a strength (docs/statistics.md 4.17).
"""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from saeft_ray import stats
from saeft_ray.records.rows import KL
from saeft_ray.report.beside_strength import beside_strength
from saeft_ray.report.numbers import count, in_list, p_value, pp
from saeft_ray.report.scores import METRIC
from saeft_ray.report.strengths import EqualStrength, StrengthCurve, StrengthPoint, StrengthRun, Strengths, Verdict
from saeft_ray.stats.paired import Paired

_LEAST_KL = 1e-9  # of a run that equals the frozen model, which has no logarithm
Pair = tuple[str, str]


def at_equal_strength(
    rows: pa.Table,
    id_sets: Sequence[str],
    datasets: Sequence[str],
    asked: Sequence[Pair],
    alpha: float,
    margin: float | None,
    endpoint: str,
) -> Strengths | None:
    """The curves of the phase `curves` and their comparisons: of the `asked` pairs that have curves, or of all pairs.
    `datasets` are those of the endpoint. None where no run of the phase has ended."""
    runs = _runs(rows, id_sets, datasets)
    if not any(runs["curves"]):
        return None
    by_method = {name: [r for r in runs["curves"] if r.method == name] for name in _names(runs["curves"])}
    curves = tuple(_curve(name, found) for name, found in by_method.items())
    arms = [curve.method for curve in curves if len({r.configuration for r in by_method[curve.method]}) > 1]
    pairs = [pair for pair in dict.fromkeys(asked) if set(pair) <= set(arms)] or list(combinations(arms, 2))
    used = [r for r in runs["curves"] if r.kl > _LEAST_KL and r.seed is not None]
    points = stats.runs([r.method for r in used], [r.seed or 0 for r in used], [r.kl for r in used])
    compared = list[EqualStrength]()
    for where, values in ((endpoint, [r.ood for r in used]), ("ID", [r.id for r in used])):
        if where == "ID" and (endpoint == "ID" or not id_sets):
            continue
        least = _floor(rows, datasets if where == endpoint else id_sets)
        found = stats.at_equal_strength(points, values, pairs, margin, 1 - alpha, least)
        compared += [_said(each, where, alpha, margin) for each in found]
    one = stats.one_curve(points, [r.ood for r in used])
    ends = {
        name: _mean([r for r in runs["confirm"] if r.method == name])
        for name in _names(runs["confirm"])
        if name not in by_method
    }
    return Strengths(
        curves=curves,
        ends=ends,
        r2=one.r2 if one else None,
        residual=one.residual_sd if one else None,
        departs=_departs(used, one.r2) if one else None,
        compared=tuple(compared),
        without=tuple(name for name in by_method if name not in arms),
        beside=beside_strength(used, runs["confirm"], pairs, 1 - alpha, _floor(rows, datasets)),
    )


def _departs(runs: Sequence[StrengthRun], r2: float) -> tuple[str, float] | None:
    """The method without which one curve explains most, and R² then; None if that is no more than with it, or where
    fewer than three methods are left."""
    names, found = _names(runs), dict[str, float]()
    for name in names if len(names) > 3 else ():
        rest = [r for r in runs if r.method != name]
        points = stats.runs([r.method for r in rest], [r.seed or 0 for r in rest], [r.kl for r in rest])
        if one := stats.one_curve(points, [r.ood for r in rest]):
            found[name] = one.r2
    name = max(found, key=lambda each: found[each], default="")
    return (name, found[name]) if name and found[name] > r2 else None


def _runs(rows: pa.Table, id_sets: Sequence[str], datasets: Sequence[str]) -> dict[str, list[StrengthRun]]:
    """The runs of the two phases that have all numbers, in one order."""
    columns = ["phase", "method", "configuration", "settings", "seed", "dataset", "role", "metric", "value", "status"]
    kinds: dict[tuple[str, str, str, int | None], tuple[str, tuple[tuple[str, float], ...]]] = {}
    values: dict[tuple[str, str, str, int | None], dict[str, float]] = {}
    for row in rows.select(columns).to_pylist():
        value = row["value"]
        if row["phase"] not in ("confirm", "curves") or row["status"] != "ok" or value is None:
            continue
        key = (row["phase"], row["method"], row["configuration"], row["seed"])
        kinds[key] = _kind(row["settings"])
        if row["metric"] == METRIC and row["role"] != "selection":
            values.setdefault(key, {})[row["dataset"]] = value
        elif row["metric"] == KL:
            values.setdefault(key, {})[KL] = value
    out: dict[str, list[StrengthRun]] = {"confirm": [], "curves": []}
    for (phase, method, configuration, seed), found in sorted(values.items(), key=str):
        if KL in found and all(d in found for d in (*id_sets, *datasets)):
            identity = _share(found, id_sets) if id_sets else math.nan
            key = (phase, method, configuration, seed)
            out[phase].append(
                StrengthRun(method, configuration, seed, found[KL], identity, _share(found, datasets), *kinds[key])
            )
    return out


def _floor(rows: pa.Table, sets: Sequence[str]) -> float:
    """The least variance of a mean accuracy over `sets` (docs/statistics.md 5.2); 0 where a size is not known."""
    found = rows.filter(pc.equal(rows["metric"], METRIC))
    sizes = dict(zip(found["dataset"].to_pylist(), found["n"].to_pylist(), strict=True))
    known = [sizes.get(name) for name in sets]
    return sum(1 / (12 * n * n) for n in known if n) / len(known) ** 2 if known and all(known) else 0.0


def _kind(settings: str) -> tuple[str, tuple[tuple[str, float], ...]]:
    """The type of a method and its lambdas, from its settings."""
    given = json.loads(settings)
    lambdas = ((n, float(v)) for n, v in given.items() if n.startswith("lambda_") and isinstance(v, int | float))
    return str(given.get("type", "")), tuple(sorted(lambdas))


def _share(found: Mapping[str, float], sets: Sequence[str]) -> float:
    return math.fsum(found[d] for d in sets) / len(sets)


def _names(runs: Sequence[StrengthRun]) -> list[str]:
    return list(dict.fromkeys(r.method for r in runs))


def _curve(name: str, runs: Sequence[StrengthRun]) -> StrengthCurve:
    strengths = {r.configuration: [s for s in runs if s.configuration == r.configuration] for r in runs}
    points = sorted((_mean(found) for found in strengths.values()), key=lambda point: point.kl)
    return StrengthCurve(
        method=name, points=tuple(points), least=min(r.kl for r in runs), greatest=max(r.kl for r in runs)
    )


def _mean(runs: Sequence[StrengthRun]) -> StrengthPoint:
    def mean(values: Sequence[float]) -> float:
        return math.fsum(values) / len(values)

    identity = mean([r.id for r in runs])
    return StrengthPoint(
        kl=mean([r.kl for r in runs]),
        id=None if math.isnan(identity) else identity,
        ood=mean([r.ood for r in runs]),
    )


def _said(found: stats.AtEqualStrength, endpoint: str, alpha: float, margin: float | None) -> EqualStrength:
    d: Paired | None = found.comparison
    verdict: Verdict = "undecided"
    if d is not None and found.p_adjusted is not None and found.p_adjusted < alpha:
        verdict = "better" if d.mean > 0 else "worse"
    elif found.equivalent_adjusted is not None and found.equivalent_adjusted < alpha:
        verdict = "equivalent"
    return EqualStrength(
        method=found.a,
        against=found.b,
        endpoint=endpoint,
        difference=d.mean if d else None,
        lo=d.lo if d else None,
        hi=d.hi if d else None,
        p=found.p_adjusted,
        p_equivalent=found.equivalent_adjusted,
        verdict=verdict,
        sentence=_sentence(found, endpoint, verdict, alpha, margin),
    )


def _sentence(found: stats.AtEqualStrength, endpoint: str, verdict: Verdict, alpha: float, margin: float | None) -> str:
    d: Paired | None = found.comparison
    start = f"On {endpoint} at equal strength, {found.a}"
    if d is None or d.lo is None or d.hi is None:
        why = found.reason or "no spread can be estimated"
        return f"{start} against {found.b}: no estimate ({why}). This is not evidence of equality."
    ends = f"{pp(d.lo, signed=True)} to {pp(d.hi, signed=True)}"
    facts = f"{pp(d.mean, signed=True)} pp, {round(100 * (1 - alpha))} % CI {ends}, {count(d.n, 'seed')}"
    if found.common is not None:
        facts += f", KL {found.common[0]:.3g} to {found.common[1]:.3g}"
    if found.p_adjusted is not None:
        facts += f", Holm p {p_value(found.p_adjusted)}"
    if verdict in ("better", "worse"):
        text = f"{start} is {verdict} than {found.b} ({facts})."
    elif verdict == "equivalent" and margin is not None:
        text = f"{start} is equivalent to {found.b} within ±{pp(margin)} pp ({facts}): they are on the same curve."
    else:
        text = f"{start} against {found.b} is not decided ({facts}). This is not evidence of equality."
    slope = found.slope
    if slope is not None and slope.lo is not None and slope.hi is not None and not slope.lo <= 0 <= slope.hi:
        text += " The two curves are not parallel, so this is a mean over the strengths that were run."
    if found.left_out:
        text += f" Without {in_list([f'seed {seed} ({why})' for seed, why in sorted(found.left_out.items())])}."
    return text
