"""Rows and the sweep's record → a `Report`: pure, deterministic, and with no drawing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from saeft_ray import stats
from saeft_ray.config.choose import is_dealt
from saeft_ray.errors import UserError
from saeft_ray.features.content import WhatChanged
from saeft_ray.records.amendments import as_registered, later
from saeft_ray.report import numbers, provenance, secondary, sequential, verdicts, warnings
from saeft_ray.report.added import additions, extensions, registered_part
from saeft_ray.report.added import headline as added_in_words
from saeft_ray.report.at_equal_strength import at_equal_strength
from saeft_ray.report.choices import choices
from saeft_ray.report.comparisons import Family, Pair, compare, pairs_of
from saeft_ray.report.content import Comparison, Control, Report, Warning
from saeft_ray.report.cue import cue_found
from saeft_ray.report.headline import at_equal_strength as equal_in_words
from saeft_ray.report.headline import headline
from saeft_ray.report.learning import learning
from saeft_ray.report.method_facts import MethodFacts, facts_of
from saeft_ray.report.method_results import is_derived, methods_of
from saeft_ray.report.numbers import in_list
from saeft_ray.report.questions import questions
from saeft_ray.report.recipe import recipe
from saeft_ray.report.scores import Scores, config, metric_of, read_scores
from saeft_ray.report.searched import SearchSummary
from saeft_ray.report.standing import Standing, standing
from saeft_ray.report.strengths import Strengths
from saeft_ray.spelling import difference, other_spelling


@dataclass(frozen=True, kw_only=True)
class Context:
    """The facts that every part of a report is made from.

    `scores` are those that were registered, `everything` those that came later too. `rules` is the section `report` of
    the sweep file as it was registered, `declared` its methods, `wanted` its pairs to compare.
    `questions` maps (trained, control) to the control's dictionary. `designs` has the rule of each family that is
    tested after every seed. `open`: trials are still to come, so nothing without a rule of its own gets a verdict.
    """

    rows: pa.Table
    record: Mapping[str, Any]
    scores: Scores
    everything: Scores
    rules: Mapping[str, Any]
    declared: Mapping[str, Any]
    facts: Mapping[str, MethodFacts]
    baseline: str | None
    wanted: tuple[tuple[str | None, str | None], ...]
    questions: Mapping[tuple[str, str], str]
    alpha: float
    margin: float | None
    endpoint: str
    datasets: tuple[str, ...]
    designs: Mapping[str, stats.Design]
    unfinished: bool
    open: bool

    @property
    def shared_design(self) -> stats.Design | None:
        """The rule of the primary family: it chose the moment at which families without a rule are read, too."""
        return self.designs.get("primary")

    @property
    def size(self) -> int:
        """The number of methods that are compared with the baseline, those without rows included."""
        return len({*self.scores.methods, *self.declared} - {self.baseline})


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A family with its comparisons. `faults` contradict the registration; `unpooled` says why no spread was pooled."""

    family: Family
    comparisons: tuple[Comparison, ...]
    faults: tuple[str, ...] = ()
    unpooled: str | None = None


def findings(rows: pa.Table, record: Mapping[str, Any], what_changed: WhatChanged | None = None) -> Report:
    """Every number and verdict of a sweep.

    `rows` has `saeft_ray.records.rows.SCHEMA`, in any order; `record` is the sweep's `sweep.json`;
    `what_changed` is passed on; a record with `epochs`, the lines of that table, has learning curves. Raises UserError
    for rows that must not be reported: reused seeds, duplicates, an unknown baseline or an unknown method to compare.
    """
    context = _context(rows, record)
    primary, ruled, asked = _primary(context), _with_rule(context), _without_rule(context)
    running = any(c.course is not None and not c.course.ended for c in (*primary.comparisons, *ruled.comparisons))
    context = replace(context, open=context.unfinished or running)
    controls = ruled.comparisons + _closed(context, asked.comparisons)
    faults = (*sequential.deviations(record), *primary.faults, *ruled.faults, *asked.faults)
    scores, is_open, metric = context.scores, context.open, metric_of(record)
    methods = methods_of(context.everything, context.facts, context.alpha, context.shared_design, is_open)
    tuned = provenance.searches(rows, scores, record)
    stands = standing(scores, context.facts, (record.get("data") or {}).get("classes"))
    lines, on_id, load_bearing = _lines(context), _id(context), _load_bearing(context, controls, stands, tuned)
    equal = strengths(rows, record, context)
    additional = additions(context.everything, record, context.baseline)
    tested, sharpened = extensions(
        context.everything, record, {"primary": primary.comparisons, "controls": _declared(context, controls)}
    )
    return Report(
        name=str(record.get("name") or "sweep"),
        created=record.get("created"),
        source=record.get("source"),
        baseline=context.baseline,
        alpha=context.alpha,
        margin=context.margin,
        endpoint=numbers.where(context.endpoint, context.datasets) if context.datasets else "nothing",
        confirm_seeds=tuple(sorted({s for t in context.everything.methods.values() for s in t.seeds if s is not None})),
        id_sets=scores.id_sets,
        ood_sets=scores.ood_sets,
        diagnostic_sets=scores.diagnostic_sets,
        open=is_open,
        exploratory=faults,
        headline=headline(
            primary.comparisons, on_id, load_bearing, stands, context.baseline, is_open, bool(faults), metric
        )
        + equal_in_words(load_bearing, equal)
        + added_in_words(additional, tested),
        standing=stands,
        methods=methods,
        primary=primary.comparisons,
        id=on_id,
        shifts=_shifts(context),
        controls=controls,
        load_bearing=load_bearing,
        sensitivity=() if is_open else secondary.sensitivity(primary.family, record, context.alpha, context.margin),
        effective=_effective(context, primary.family, lines),
        lines=lines,
        described=() if is_open else secondary.described(primary.comparisons, scores),
        checkpoints=() if is_open else secondary.checkpoints(primary.family.pairs, scores.datasets),
        front=None if is_open else secondary.front(scores, record, context.shared_design is not None),
        curves=secondary.curves(methods, context.facts),
        searches=() if record.get("source") else tuned,
        failures=provenance.failures(scores),
        warnings=_warnings(context, primary, controls, faults, tuned),
        cue=None if is_open else cue_found(rows, record, tuple(scores.methods)),
        provenance=provenance.provenance(rows, record),
        recipe=recipe(record, context.facts, tuned),
        metric=metric,
        what_changed=what_changed,
        learning=learning(record.get("epochs", ())),
        added_sets=context.everything.added_sets,
        additions=additional,
        extended=tested,
        choices=() if record.get("source") else choices(rows, record),
        dealt=is_dealt(config(record)),
        strengths=equal,
        sharpened=sharpened,
    )


def strengths(rows: pa.Table, record: Mapping[str, Any], context: Context) -> Strengths | None:
    """What is said at equal strength; None for a sweep without curves."""
    if not config(record).get("curves") or context.open:
        return None
    asked = [(a, b) for a, b in (*context.wanted, *context.questions) if a and b]
    if later(record):  # what was added came after a look: the registered methods and seeds stay by themselves
        seeds = pa.array(record["registration"]["seeds"], rows["seed"].type)
        known = pc.or_(pc.is_null(rows["seed"]), pc.is_in(rows["seed"], seeds))
        rows = rows.filter(pc.and_(known, pc.is_in(rows["method"], pa.array(list(context.scores.methods)))))
    return at_equal_strength(
        rows, context.scores.id_sets, context.datasets, asked, context.alpha, context.margin, context.endpoint
    )


def _context(rows: pa.Table, record: Mapping[str, Any]) -> Context:
    then = as_registered(record)
    rules = record.get("report") or config(then).get("report") or {}
    declared = config(then).get("methods") or {}
    everything = _ordered(read_scores(rows, record), record, rules.get("baseline"))
    scores = registered_part(everything, record)
    known = {*scores.methods, *declared}
    endpoint, datasets = ("OOD", scores.ood_sets) if scores.ood_sets else ("ID", scores.id_sets)
    if registered := record.get("registration"):
        # A registered set without rows leaves seeds incomplete; the endpoint never shrinks to what exists.
        endpoint, datasets = registered["endpoint"], tuple(registered["datasets"])
    facts = {name: facts_of(name, record) for name in everything.methods}
    return Context(
        rows=rows,
        record=record,
        scores=scores,
        everything=everything,
        rules=rules,
        declared=declared,
        facts=facts,
        baseline=_known(rules.get("baseline"), known, "the baseline") if known else None,
        wanted=tuple((_known(a, known, "compare"), _known(b, known, "compare")) for a, b in rules.get("compare") or []),
        questions=questions({name: facts[name] for name in scores.methods}, declared),
        alpha=float(rules.get("alpha") or 0.05),
        margin=rules.get("margin"),
        endpoint=endpoint,
        datasets=datasets,
        designs=sequential.rules(record),
        unfinished=sequential.unfinished(record, scores),
        open=False,
    )


def _decided(context: Context, family: Family) -> Decided:
    """`family` with the verdicts that its rule, or the end of all seeds, allows."""
    alpha, margin = context.alpha, context.margin
    if context.unfinished:
        return Decided(family=family, comparisons=tuple(map(_kept_back, compare(family, alpha, margin))))
    design = context.designs.get(family.name)
    compared = compare(replace(family, design=design or context.shared_design), alpha, margin)
    if design is None:
        return Decided(family=family, comparisons=compared)
    looked, faults = sequential.run_until_decided(family, compared, design, context.record, alpha)
    return Decided(family=family, comparisons=looked, faults=tuple(faults))


def _closed(context: Context, comparisons: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
    """`comparisons` of a family without a rule, which give no verdict while the sweep is open."""
    return tuple(map(_waiting, comparisons)) if context.open else comparisons


def _against_baseline(context: Context, kind: str, datasets: tuple[str, ...]) -> tuple[Pair, ...]:
    names = [(name, context.baseline) for name in context.scores.methods if name != context.baseline]
    return pairs_of(context.scores, names if context.baseline else [], kind, datasets)


def _primary(context: Context) -> Decided:
    pairs = _against_baseline(context, context.endpoint, context.datasets)
    decided = _decided(context, Family(name="primary", pairs=pairs, size=context.size))
    pooled = context.rules.get("variance") == "pooled" and decided.comparisons
    if not pooled or context.unfinished or context.shared_design is not None:
        return decided
    borrowed = secondary.pool(decided.comparisons, pairs, context.alpha)
    if isinstance(borrowed, str):
        return replace(decided, unpooled=borrowed)
    return replace(decided, comparisons=borrowed)


def _control_pairs(context: Context) -> tuple[Pair, ...]:
    """The declared pairs, then those that a question about the SAE asks for."""
    names = list(dict.fromkeys([*context.wanted, *context.questions]))
    return pairs_of(context.scores, names, context.endpoint, context.datasets)


def _declared(context: Context, controls: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
    """Those of `controls` that the sweep file asks for."""
    return tuple(c for c in controls if (c.method, c.against) in context.wanted)


def _has_rule(context: Context, pair: Pair) -> bool:
    return "controls" in context.designs and (pair.method.method, pair.against.method) in context.wanted


def _with_rule(context: Context) -> Decided:
    pairs = tuple(pair for pair in _control_pairs(context) if _has_rule(context, pair))
    family = Family(name="controls", pairs=pairs)
    return _decided(context, family) if "controls" in context.designs else Decided(family=family, comparisons=())


def _without_rule(context: Context) -> Decided:
    pairs = _control_pairs(context)
    rest = tuple(pair for pair in pairs if not _has_rule(context, pair))
    declared = [(pair.method.method, pair.against.method) in context.wanted for pair in rest]
    name = "controls" if all(declared) else "controls and questions" if any(declared) else "questions"
    return _decided(context, Family(name=name, pairs=rest))


def _id(context: Context) -> tuple[Comparison, ...]:
    """The comparisons on the ID sets, where the primary ones are about OOD sets."""
    sets = context.scores.id_sets
    if not context.scores.ood_sets:
        return ()
    pairs = _against_baseline(context, "ID", sets) if sets else ()
    return _closed(context, _decided(context, Family(name="id", pairs=pairs, size=context.size)).comparisons)


def _shifts(context: Context) -> tuple[Comparison, ...]:
    """The comparisons on every single OOD set."""
    sets = context.scores.ood_sets
    pairs = tuple(pair for d in sets for pair in _against_baseline(context, "OOD", (d,)))
    decided = _decided(context, Family(name="shifts", pairs=pairs, size=context.size * len(sets))).comparisons
    return _closed(context, decided) if context.open else secondary.discoveries(decided)


def _lines(context: Context) -> dict[str, stats.Line]:
    roles = (context.record.get("data") or {}).get("roles") or {}
    declared = (name for name, role in roles.items() if role == "ood")
    return secondary.lines(context.rules, {*context.scores.ood_sets, *declared})


def _effective(context: Context, primary: Family, lines: Mapping[str, stats.Line]) -> tuple[Comparison, ...]:
    """The comparisons by accuracy beyond the declared lines."""
    if not lines or not context.scores.id_sets:
        return ()
    family = secondary.effective(primary.pairs, lines, context.scores.id_sets, context.size)
    return _closed(context, _decided(context, family).comparisons)


def _load_bearing(
    context: Context, controls: tuple[Comparison, ...], stands: Standing, tuned: tuple[SearchSummary, ...]
) -> tuple[Control, ...]:
    searched = {summary.method for summary in tuned if summary.search.trials}
    return tuple(
        Control(
            question="Is the SAE load-bearing?",
            answer=verdicts.load_bearing(
                c,
                context.questions[c.method, c.against],
                context.open,
                stands.idle(c.method, c.against),
                searched,
            ),
            comparison=c,
        )
        for c in controls
        if (c.method, c.against) in context.questions
    )


def _warnings(
    context: Context, primary: Decided, controls: tuple[Comparison, ...], faults: Iterable[str],
    tuned: tuple[SearchSummary, ...],
) -> tuple[Warning, ...]:  # fmt: skip
    trained = {
        name
        for name, trials in context.scores.methods.items()
        if not trials.deterministic and not is_derived(context.facts[name], trials)
    }
    unpooled = primary.unpooled
    return (
        *(Warning(rule="exploratory", text=f"Exploratory: {fault}.") for fault in faults),
        *warnings.not_run(context.rows),
        *([Warning(rule="not pooled", text=f"The spread was not pooled: {unpooled}.")] if unpooled else ()),
        *warnings.warnings(
            context.scores,
            context.record,
            primary.comparisons,
            [*primary.comparisons, *controls],
            [*primary.family.pairs, *_control_pairs(context)],
            tuned,
            trained,
            context.baseline,
        ),
    )


def _ordered(scores: Scores, record: Mapping[str, Any], baseline: str | None) -> Scores:
    """The methods as a reader expects them: without training, the baseline, the others, controls last."""

    def rank(name: str) -> int:
        if name == baseline:
            return 1
        if scores.methods[name].deterministic:
            return 0
        return 2 if facts_of(name, record).dictionary in (None, "trained") else 3

    return replace(scores, methods={name: scores.methods[name] for name in sorted(scores.methods, key=rank)})


def _known(name: Any, known: set[str], what: str) -> str | None:
    if name is not None and name not in known:
        near = other_spelling(str(name), known)
        hint = f"; {near!r} differs from it only in {difference(str(name), near)}" if near else ""
        raise UserError(f"report: {what} names the method {name!r}; this sweep has {in_list(sorted(known))}{hint}")
    return None if name is None else str(name)


def _kept_back(c: Comparison) -> Comparison:
    """A comparison of a sweep whose number of seeds is fixed and not reached."""
    c = replace(
        c, paired=None, points=(), p_adjusted=None, p_equivalent=None, interval_90=None, new_images=None, item_se=None,
        detectable=None, seeds_needed=None, tuned=None, verdict="undecided",
        refused="the sweep is open: seeds are missing",
    )  # fmt: skip
    return replace(c, sentence=verdicts.sentence(c, 0.05, False, False))


def _waiting(c: Comparison) -> Comparison:
    text = f"{c.method} against {c.against}: the sweep is open, no verdict before the rule says so."
    return replace(c, tuned=None, verdict="undecided", sentence=f"{text} This is not evidence of equality.")
