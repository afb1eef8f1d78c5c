"""The warnings of a report: rules that find what limits the conclusions."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from saeft_ray import stats
from saeft_ray.records.cue import KEY as KEY_OF_CUE
from saeft_ray.records.cue import Cue
from saeft_ray.records.earlier import KEY, in_words
from saeft_ray.report import noise
from saeft_ray.report.comparisons import Pair, item_mismatch
from saeft_ray.report.content import Comparison, Warning
from saeft_ray.report.method_facts import facts_of
from saeft_ray.report.numbers import count, in_list, number
from saeft_ray.report.scores import Scores, config, metric_of
from saeft_ray.report.searched import SearchSummary

_SKEWED = 1.0
_FEW = 5
_LISTED = 14  # seeds whose sign patterns are all tried


def not_run(rows: pa.Table) -> tuple[Warning, ...]:
    """Trials that could not be run for reasons that are not their method's: no failures, and not passed over
    (docs/statistics.md 5.6)."""
    trials = sorted(set(rows.filter(pc.equal(rows["status"], "error"))["trial"].to_pylist()))
    which = in_list(trials or ["none"])
    text = (
        f"{count(len(trials), 'trial')} could not be run, for reasons that are not the method's: {which}. No number "
        "counts them, neither as failures nor as finished; the same command tries them again."
    )
    return (Warning(rule="not run", text=text),) if trials else ()


def warnings(
    scores: Scores,
    record: Mapping[str, Any],
    primary: Sequence[Comparison],
    claims: Sequence[Comparison],
    pairs: Iterable[Pair],
    tuned: Sequence[SearchSummary],
    trained: Collection[str],
    baseline: str | None,
) -> tuple[Warning, ...]:
    """The warnings that a rule asks for. `claims` are the primary comparisons and the controls, `trained` the
    methods that have a training of their own."""
    found = [
        *_elsewhere(record),
        *_opened_before(record),
        *_unused(record),
        *_cue(record),
        *_missing_parts(scores, record, baseline),
        *_unpaired(claims),
        *_small(claims),
        *_spread(primary),
        *_uneven(scores, primary),
        *_stopped(scores),
        *_pairs(claims, scores),
        *_items(pairs),
        *_tuning(tuned, trained),
        *noise.rules(scores, record, tuned),
    ]
    return tuple(Warning(rule=rule, text=text) for rule, text in found)


def _elsewhere(record: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if record.get("source"):
        yield (
            "unknown selection",
            "These numbers were not made here: whether settings were chosen on these seeds or test sets, or seeds left "
            "out, is not known. If so, they are optimistic.",
        )
        if (config(record).get("report") or {}).get("margin") is not None:
            yield (
                "unknown margin",
                "The margin was given with these numbers: whether it was fixed before the runs is not known. A margin "
                "chosen afterwards proves nothing.",
            )


def _opened_before(record: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if words := in_words((record.get("registration") or {}).get(KEY, [])):
        yield (
            "opened before",
            f"{words[0].upper()}{words[1:]}: what was chosen after a look at those results is optimistic here. "
            "`confirm: {draw: 1}` gives seeds of another draw.",
        )


def _unused(record: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if columns := record.get("unused_columns"):
        yield "unused columns", f"The table has columns that no number here rests on: {in_list(columns)}."


def _cue(record: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if KEY_OF_CUE in record and (cue := Cue(**record[KEY_OF_CUE])).likely:
        yield "cue", str(cue)


def _missing_parts(scores: Scores, record: Mapping[str, Any], baseline: str | None) -> Iterable[tuple[str, str]]:
    declared, metric = list(config(record).get("methods") or {}), metric_of(record)
    if not scores.methods:
        yield "no confirm", "No trial of the confirm phase has been written: there is nothing to compare yet."
        return
    if baseline is None:
        yield "no baseline", "The sweep declares no baseline: no method is compared against any other by default."
    if absent := [name for name in declared if name not in scores.methods]:
        yield "missing methods", f"Declared, but without any confirm row: {in_list(absent)}."
    if not scores.ood_sets:
        yield (
            "no OOD set",
            f"No OOD set was evaluated: the verdicts are about ID {metric} and say nothing about robustness.",
        )
    elif not scores.id_sets:
        yield (
            "no ID set",
            f"No ID set is named: every test set counts as a shift, and what a method does to ID {metric} is not "
            "known.",
        )
    drawn = (config(record).get("dictionary") or {}).get("seeds")
    seeds = {seed for trials in scores.methods.values() for seed in trials.seeds if seed is not None}
    readers = [name for name in scores.methods if facts_of(name, record).dictionary]
    if drawn is not None and readers and drawn < len(seeds):
        yield (
            "few dictionaries",
            f"{count(len(seeds), 'confirm seed')} shared {drawn} {'dictionary' if drawn == 1 else 'dictionaries'} of "
            f"each kind: what is said of {in_list(readers)} is about {'that one' if drawn == 1 else 'those'}, not "
            "about dictionaries trained or drawn anew.",
        )
    roles = (record.get("data") or {}).get("roles") or {}
    seen = (*scores.datasets, *scores.diagnostic_sets)
    if absent := [d for d, role in roles.items() if role != "selection" and d not in seen]:
        yield "missing test sets", f"Declared, but never evaluated: {in_list(absent)}."


def _unpaired(claims: Sequence[Comparison]) -> Iterable[tuple[str, str]]:
    found = [c for c in claims if c.unpaired and c.paired]
    if found:
        why = "; ".join(dict.fromkeys(str(c.unpaired) for c in found))
        yield (
            "unpaired",
            f"Not paired, but compared as two samples by Welch’s t: {in_list(map(_pair, found))} ({why}). What differs "
            "between the two sets of runs besides the method is part of such a difference, and it takes more runs "
            "than seeds in common would. Each family is corrected as a whole, paired and unpaired.",
        )
    if few := [c for c in found if c.paired and c.paired.n < stats.MIN_PAIRS]:
        yield (
            "too few runs",
            f"{in_list(map(_pair, few))}: nothing is claimed with fewer than {stats.MIN_PAIRS} runs of each.",
        )
    some = [c for c in found if c.paired and stats.MIN_PAIRS <= c.paired.n <= _FEW]
    if some:
        yield (
            "few runs",
            f"{in_list(map(_pair, some))}: with {_FEW} runs or fewer of a method, interval and p-value rest on "
            "normality of the runs’ scores.",
        )


def _small(claims: Sequence[Comparison]) -> Iterable[tuple[str, str]]:
    sizes = sorted({c.paired.n for c in claims if c.paired and not c.unpaired and c.paired.n <= _FEW})
    if sizes and sizes[0] < stats.MIN_PAIRS:
        yield "too few seeds", f"Nothing is claimed about a method with fewer than {stats.MIN_PAIRS} paired seeds."
    sizes = [n for n in sizes if n >= stats.MIN_PAIRS]
    if sizes:
        yield (
            "few seeds",
            f"{in_list(sizes)} seeds: every interval and p-value rests on "
            "normality of the differences; a test without that assumption cannot reach 5 % with 5 seeds or fewer.",
        )
    if floored := [_pair(c) for c in claims if c.paired and c.paired.floored and not c.paired.identical]:
        yield (
            "variance floor",
            f"{in_list(floored)}: the seeds differ by less than the test sets can resolve, so the spread was set to "
            "that resolution.",
        )


def _spread(primary: Sequence[Comparison]) -> Iterable[tuple[str, str]]:
    skewed = [
        f"{_pair(c)} ({number(c.paired.skewness, 1, signed=True)})"
        for c in primary
        if c.paired and c.paired.skewness is not None and abs(c.paired.skewness) > _SKEWED
    ]
    if skewed:
        yield (
            "skewness",
            f"The differences over seeds are skewed: {in_list(skewed)}. Skewed differences raise the error rate of "
            "every small-sample test of a mean; look at the single seeds.",
        )
    low = [
        f"{_pair(c)} ({number(c.paired.rho, 2)})"
        for c in primary
        if c.paired and c.paired.rho is not None and c.paired.rho < stats.break_even_rho(c.paired.n)
    ]
    if low:
        yield (
            "low correlation",
            f"Sharing seeds bought nothing: the correlation over seeds is below break-even for {in_list(low)}. "
            "The paired test stays valid; it needs more seeds than hoped.",
        )


def _uneven(scores: Scores, primary: Sequence[Comparison]) -> Iterable[tuple[str, str]]:
    names = [primary[0].against, *(c.method for c in primary if c.paired and not c.unpaired)] if primary else []
    means = {name: scores.methods[name].means(primary[0].datasets) for name in names if name in scores.methods}
    means = {name: values for name, values in means.items() if values and None not in values}
    seeds = set.intersection(*(set(values) for values in means.values())) if means else set()
    if len(means) < 3 or len(seeds) < stats.MIN_PAIRS:
        return
    order = sorted(seeds, key=lambda s: s or 0)
    ratio = stats.residual_ratio([[values[seed] for values in means.values()] for seed in order])
    if ratio is not None and ratio > stats.LARGEST_RATIO:
        yield (
            "uneven spreads",
            f"The methods vary unequally over seeds: the largest residual spread is {number(ratio, 1)} times the "
            "smallest. Each comparison uses its own spread; one spread for all would mislead here.",
        )


def _pairs(claims: Sequence[Comparison], scores: Scores) -> Iterable[tuple[str, str]]:
    missing = [
        f"{_pair(c)} (seed {in_list(c.dropped_seeds)})" for c in claims if c.dropped_seeds and c.paired is not None
    ]
    if missing:
        yield (
            "missing pairs",
            f"Seeds without a finished partner or with a missing test set were left out: {in_list(missing)}. Those "
            "verdicts hold among runs that finish.",
        )
    if refused := [f"{_pair(c)}: {c.refused}" for c in claims if c.refused]:
        yield "refused", "Not compared: " + "; ".join(refused) + "."


def _stopped(scores: Scores) -> Iterable[tuple[str, str]]:
    stopped = [
        name if seed is None else f"{name} seed {seed}"
        for name, trials in scores.methods.items()
        for seed in sorted(trials.stopped, key=lambda s: s or 0)
    ]
    if stopped:
        yield (
            "stopped on purpose",
            f"Stopped on purpose, and so without a number: {in_list(stopped)}. No other seed takes the place of such a "
            "run, and its pairs are missing. Whoever stops a run after a look at it, or at others, chooses what is "
            "missing: what is said of these methods holds among runs that finish. The sensitivity table scores a "
            "stopped run as a guess.",
        )


def _items(pairs: Iterable[Pair]) -> Iterable[tuple[str, str]]:
    reasons = sorted({reason for pair in pairs if (reason := item_mismatch(pair)) is not None})
    if reasons:
        yield (
            "example order",
            "No interval for new images, because single examples may not be paired: " + "; ".join(reasons) + ".",
        )


def _tuning(tuned: Sequence[SearchSummary], trained: Collection[str]) -> Iterable[tuple[str, str]]:
    leaked: dict[tuple[str, ...], list[str]] = {}
    for search in tuned:
        if search.leaked:
            leaked.setdefault(search.leaked, []).append(search.method)
    for datasets, methods in leaked.items():
        yield (
            "selected_on_test",
            f"{in_list(methods)}: selected on {in_list(datasets)} itself; that score is optimistic, and fresh seeds do "
            "not correct that.",
        )
    budgets: dict[int, list[str]] = {}
    for search in tuned:
        if search.method in trained:
            budgets.setdefault(search.search.trials, []).append(search.method)
    if len(budgets) > 1:
        parts = [
            f"{count(trials, 'trial') if trials else 'none'} for {in_list(names)}"
            for trials, names in sorted(budgets.items())
        ]
        yield "unequal tuning", f"Search budgets differ: {in_list(parts)}. More tuning is an advantage of its own."


def _pair(c: Comparison) -> str:
    return f"{c.method} against {c.against}"
