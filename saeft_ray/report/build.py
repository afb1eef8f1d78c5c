"""Rows and the sweep's record → a `Report`: pure, deterministic, and with no drawing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from saeft_ray import stats
from saeft_ray.errors import UserError
from saeft_ray.report import numbers, provenance, secondary, sequential, verdicts, warnings
from saeft_ray.report.comparisons import Family, Pair, compare
from saeft_ray.report.content import Cell, Comparison, Control, Method, Report, Warning
from saeft_ray.report.method_facts import MethodFacts, facts_of
from saeft_ray.report.numbers import in_list
from saeft_ray.report.scores import Score, Scores, Seed, Trials, config, read_scores


def findings(rows: pa.Table, record: Mapping[str, Any]) -> Report:
    """Every number and verdict of a sweep.

    `rows` has `saeft_ray.records.rows.SCHEMA`, in any order; `record` is the sweep's `sweep.json`. Raises
    UserError for rows that must not be reported: reused seeds, duplicates, an unknown baseline or an unknown method
    to compare.
    """
    rules = record.get("report") or config(record).get("report") or {}
    alpha, margin = float(rules.get("alpha") or 0.05), rules.get("margin")
    scores = read_scores(rows, record)
    declared = config(record).get("methods") or {}
    scores = _ordered(scores, record, rules.get("baseline"))
    known = {*scores.methods, *declared}
    baseline = _known(rules.get("baseline"), known, "the baseline") if known else None
    endpoint, datasets = ("OOD", scores.ood_sets) if scores.ood_sets else ("ID", scores.id_sets)
    if registered := record.get("registration"):
        # A registered set without rows leaves seeds incomplete; the endpoint never shrinks to what exists.
        endpoint, datasets = registered["endpoint"], tuple(registered["datasets"])
    facts = {name: facts_of(name, record) for name in scores.methods}
    rivals = [name for name in scores.methods if name != baseline]
    size = len({*rivals, *declared} - {baseline})

    rule, faults = sequential.rules(record), sequential.deviations(record)
    # Families without a rule of their own are read at a moment that another family's rule chose.
    other = rule.get("primary")
    unfinished = sequential.unfinished(record, scores)

    def decided(family: Family) -> tuple[Comparison, ...]:
        if unfinished:
            return tuple(map(_kept_back, compare(family, alpha, margin)))
        if (design := rule.get(family.name)) is None:
            return compare(replace(family, design=other), alpha, margin)
        looked, contradictions = sequential.run_until_decided(
            family, compare(replace(family, design=design), alpha, margin), design, record, alpha
        )
        faults.extend(contradictions)
        return looked

    def against_baseline(kind: str, wanted: Sequence[str]) -> tuple[Pair, ...]:
        return _pairs(scores, [(m, baseline) for m in rivals] if baseline else [], kind, tuple(wanted))

    primary_family = Family(name="primary", pairs=against_baseline(endpoint, datasets), size=size)
    id_family = Family(name="id", pairs=against_baseline("ID", scores.id_sets) if scores.id_sets else (), size=size)
    shift_pairs = [pair for d in scores.ood_sets for pair in against_baseline("OOD", [d])]
    shift_family = Family(name="shifts", pairs=tuple(shift_pairs), size=size * len(scores.ood_sets))
    questions = _questions(facts, declared)
    wanted = [(_known(a, known, "compare"), _known(b, known, "compare")) for a, b in rules.get("compare") or []]
    control_pairs = _pairs(scores, list(dict.fromkeys([*wanted, *questions])), endpoint, datasets)
    primary = decided(primary_family)
    unpooled = None
    if rules.get("variance") == "pooled" and primary and not unfinished and other is None:
        borrowed = secondary.pool(primary, primary_family.pairs, alpha)
        primary, unpooled = (primary, borrowed) if isinstance(borrowed, str) else (borrowed, None)
    declared_pairs = {pair for pair in wanted if pair[0] and pair[1]}
    with_rule = [p for p in control_pairs if (p.method.method, p.against.method) in declared_pairs]
    if "controls" in rule:
        asked = [p for p in control_pairs if p not in with_rule]
        controls = decided(Family(name="controls", pairs=tuple(with_rule)))
    else:
        with_rule, controls, asked = [], (), list(control_pairs)
    questioned = decided(Family(name="questions" if with_rule else "controls", pairs=tuple(asked)))
    is_open = unfinished or any(c.course is not None and not c.course.ended for c in (*primary, *controls))

    def still_open(comparisons: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
        """What has no rule of its own waits for the end."""
        return tuple(map(_waiting, comparisons)) if is_open else comparisons

    controls += still_open(questioned)
    tuned = provenance.searches(rows, scores, record)
    roles = (record.get("data") or {}).get("roles") or {}
    lines = secondary.lines(rules, {*scores.ood_sets, *(d for d, role in roles.items() if role == "ood")})
    beyond = Family(name="effective", pairs=())
    if lines and scores.id_sets:
        beyond = secondary.effective(primary_family.pairs, lines, scores.id_sets, size)
    methods = _methods(scores, facts, alpha, other, is_open)
    return Report(
        name=str(record.get("name") or "sweep"),
        created=record.get("created"),
        source=record.get("source"),
        baseline=baseline,
        alpha=alpha,
        margin=margin,
        endpoint=numbers.where(endpoint, datasets) if datasets else "nothing",
        confirm_seeds=tuple(sorted({s for t in scores.methods.values() for s in t.seeds if s is not None})),
        id_sets=scores.id_sets,
        ood_sets=scores.ood_sets,
        open=is_open,
        exploratory=tuple(faults),
        headline=verdicts.headline(primary, baseline, is_open, bool(faults)),
        methods=methods,
        primary=primary,
        id=still_open(decided(id_family)) if scores.ood_sets else (),
        shifts=still_open(decided(shift_family)) if is_open else secondary.discoveries(decided(shift_family)),
        controls=controls,
        load_bearing=tuple(
            Control(
                question="Is the SAE load-bearing?",
                answer=verdicts.load_bearing(c, questions[c.method, c.against], is_open),
                comparison=c,
            )
            for c in controls
            if (c.method, c.against) in questions
        ),
        sensitivity=() if is_open else _sensitivity(replace(primary_family, design=other), record, alpha, margin),
        effective=still_open(decided(beyond)),
        lines=lines,
        described=() if is_open else secondary.described(primary, scores),
        checkpoints=() if is_open else secondary.checkpoints(primary_family.pairs, scores.datasets),
        front=None if is_open else secondary.front(scores, record, other is not None),
        curves=secondary.curves(methods, facts),
        searches=() if record.get("source") else tuned,
        failures=provenance.failures(scores),
        warnings=(
            *(Warning(rule="exploratory", text=f"Exploratory: {fault}.") for fault in faults),
            *warnings.not_run(rows),
            *([Warning(rule="not pooled", text=f"The spread was not pooled: {unpooled}.")] if unpooled else ()),
            *warnings.warnings(
                scores,
                record,
                primary,
                [*primary, *controls],
                [*primary_family.pairs, *control_pairs],
                tuned,
                {
                    name
                    for name, trials in scores.methods.items()
                    if not trials.deterministic and not _derived(facts[name], trials)
                },
                baseline,
            ),
        ),
        provenance=provenance.provenance(rows, record),
    )


def _questions(facts: Mapping[str, MethodFacts], declared: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """(trained, control) → the control's dictionary, for methods that pay by the same terms and differ in it alone."""
    forms = {name: (fact.penalty, *_form(declared.get(name) or {})) for name, fact in facts.items()}
    return {
        (a, b): other.dictionary
        for a, fact in facts.items()
        for b, other in facts.items()
        if fact.dictionary == "trained" and other.dictionary not in (None, "trained") and forms[a] == forms[b]
    }


def _form(settings: Mapping[str, Any]) -> tuple[set[str], dict[str, Any]]:
    """The terms that a penalty has, and how it takes them."""
    terms = {key for key, value in settings.items() if key.startswith("lambda_") and value}
    aside = {"type", "dictionary", "preset"}
    return terms, {k: v for k, v in settings.items() if not k.startswith("lambda_") and k not in aside}


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
        raise UserError(f"report: {what} names the method {name!r}; this sweep has {in_list(sorted(known))}")
    return None if name is None else str(name)


def _pairs(
    scores: Scores, names: Iterable[tuple[str | None, str | None]], endpoint: str, datasets: tuple[str, ...]
) -> tuple[Pair, ...]:
    """The hypotheses of `names`; a method without rows takes part and is refused in words."""
    if not datasets:
        return ()
    trials = {name: scores.methods.get(name) or Trials(method=name) for pair in names for name in pair if name}
    return tuple(
        Pair(method=trials[a], against=trials[b], endpoint=endpoint, datasets=datasets) for a, b in names if a and b
    )


def _methods(
    scores: Scores, facts: Mapping[str, MethodFacts], alpha: float, design: stats.Design | None, is_open: bool
) -> tuple[Method, ...]:
    def column(name: str, datasets: tuple[str, ...]) -> dict[str, Cell]:
        cells = _column(scores, name, datasets, alpha, design)
        return {m: _bare(cell) for m, cell in cells.items()} if is_open else cells

    columns = {d: column(d, (d,)) for d in scores.datasets}
    id_mean = column("ID", scores.id_sets) if scores.id_sets else {}
    ood_mean = column("OOD", scores.ood_sets) if scores.ood_sets else {}
    return tuple(
        Method(
            name=name,
            type=facts[name].type,
            settings=_settings(trials.settings),
            configuration=trials.configuration,
            deterministic=trials.deterministic,
            derived=_derived(facts[name], trials),
            cells=tuple(columns[d][name] for d in scores.datasets),
            id=id_mean.get(name),
            ood=ood_mean.get(name),
        )
        for name, trials in scores.methods.items()
    )


def _derived(facts: MethodFacts, trials: Trials) -> bool:
    """Whether the method's checkpoints are made of another method's."""
    return facts.derived_from is not None or "base" in _settings(trials.settings)


def _settings(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _bare(cell: Cell) -> Cell:
    """A mean of an open sweep, with no interval and no rank: these would be read as a verdict."""
    mean = None if cell.mean is None else replace(cell.mean, sd=None, lo=None, hi=None)
    return replace(cell, mean=mean, leading=False)


def _kept_back(c: Comparison) -> Comparison:
    """A comparison of a sweep whose number of seeds is fixed and not reached."""
    c = replace(
        c, paired=None, points=(), p_adjusted=None, p_equivalent=None, interval_90=None, new_images=None, item_se=None,
        detectable=None, seeds_needed=None, verdict="undecided", refused="the sweep is open: seeds are missing",
    )  # fmt: skip
    return replace(c, sentence=verdicts.sentence(c, 0.05, False, False))


def _waiting(c: Comparison) -> Comparison:
    text = f"{c.method} against {c.against}: the sweep is open, no verdict before the rule says so."
    return replace(c, verdict="undecided", sentence=f"{text} This is not evidence of equality.")


def _column(
    scores: Scores, name: str, datasets: tuple[str, ...], alpha: float, design: stats.Design | None
) -> dict[str, Cell]:
    """One column of the results table, by method, with its leading set: all that is not significantly worse than the
    best mean (paired, Holm within the column). Nothing leads where nothing could be tested."""
    cells: dict[str, Cell] = {}
    for method, trials in scores.methods.items():
        values = trials.means(datasets)
        sizes = [score[d].n for score in trials.scores.values() for d in datasets if d in score]
        floor = sum(1 / (12 * n * n) for n in sizes if n) / max(1, len(sizes)) / len(datasets) if all(sizes) else 0.0
        mean = stats.mean_interval(list(values.values()), 1 - alpha, floor) if values else None
        cells[method] = Cell(dataset=name, mean=mean, seeds=tuple(values), values=tuple(values.values()), leading=False)
    filled = {method: cell.mean.mean for method, cell in cells.items() if cell.mean is not None}
    if not filled:
        return cells
    top = max(filled, key=lambda method: filled[method])
    pairs = _pairs(scores, [(top, m) for m in filled if m != top], name, datasets)
    ranked = compare(Family(name="column", pairs=pairs, new_images=False, design=design), alpha, None)
    tested = [c for c in ranked if c.p_adjusted is not None]
    leading = {c.against for c in tested if c.verdict != "better"} | ({top} if tested else set())
    return {method: replace(cell, leading=method in leading) for method, cell in cells.items()}


def _sensitivity(
    family: Family, record: Mapping[str, Any], alpha: float, margin: float | None
) -> tuple[Comparison, ...]:
    """The primary comparisons with every failed run scored as a guess (1/classes), where any run failed
    (docs/statistics.md 5.6)."""
    classes = (record.get("data") or {}).get("classes")
    if not classes or not any(pair.method.failed or pair.against.failed for pair in family.pairs):
        return ()
    filled = {t.method: _guessing(t, 1 / classes, pair) for pair in family.pairs for t in (pair.method, pair.against)}
    pairs = tuple(
        replace(pair, method=filled[pair.method.method], against=filled[pair.against.method]) for pair in family.pairs
    )
    compared = compare(Family(name="sensitivity", pairs=pairs, size=family.size), alpha, margin)
    return tuple(c for c, pair in zip(compared, family.pairs, strict=True) if pair.method.failed or pair.against.failed)


def _guessing(trials: Trials, chance: float, pair: Pair) -> Trials:
    guess = {d: Score(value=chance, n=None, examples=None, packed=None) for d in pair.datasets}
    scores: dict[Seed, dict[str, Score]] = {**trials.scores, **dict.fromkeys(trials.failed, guess)}
    return replace(trials, scores=scores, failed={})
