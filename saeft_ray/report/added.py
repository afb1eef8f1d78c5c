"""What came after the registration: methods, pairs and test sets that were added, and seeds beyond the registered ones.

The registered analysis stays as it is. Each addition is a family of its own, at its own share of one further error
level; more seeds decide only what the registered ones left open (`records.preregistration`, docs/statistics.md 2.3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from saeft_ray import stats
from saeft_ray.records.amendments import Seen, as_registered, later
from saeft_ray.records.preregistration import added, designs, extended
from saeft_ray.report import sequential
from saeft_ray.report.comparisons import Family, Pair, compare, pairs_of
from saeft_ray.report.content import Addition, Comparison, Sharpened
from saeft_ray.report.numbers import count, in_list, pp
from saeft_ray.report.scores import Scores

Record = Mapping[str, Any]


def registered_part(scores: Scores, record: Record) -> Scores:
    """The scores of what was registered: its methods and its seeds."""
    if not later(record):
        return scores
    methods, seeds = as_registered(record)["methods"], {None, *record["registration"]["seeds"]}
    return of_seeds(replace(scores, methods={m: t for m, t in scores.methods.items() if m in methods}), seeds)


def of_seeds(scores: Scores, seeds: set[int | None]) -> Scores:
    """The scores of some seeds alone."""
    return replace(
        scores,
        methods={
            name: replace(
                trials,
                seeds=trials.seeds & seeds,
                failed={seed: why for seed, why in trials.failed.items() if seed in seeds},
                stopped={seed: why for seed, why in trials.stopped.items() if seed in seeds},
                scores={seed: found for seed, found in trials.scores.items() if seed in seeds},
            )
            for name, trials in scores.methods.items()
        },
    )


def additions(scores: Scores, record: Record, baseline: str | None) -> tuple[Addition, ...]:
    """Each amendment after the registration, with the comparisons that it asked for. `scores` are all there are."""
    registered = record.get("registration")
    if registered is None:
        return ()
    rules = added(record, registered)
    return tuple(
        _addition(scores, record, baseline, rule, amendment)
        for rule, amendment in zip(rules, later(record), strict=True)
    )


def _addition(scores: Scores, record: Record, baseline: str | None, rule: Record, amendment: Record) -> Addition:
    ((name, names),) = rule["families"].items()
    shown = of_seeds(scores, {None, *rule["seeds"]})
    by_rule = pairs_of(shown, [tuple(pair) for pair in names], rule["endpoint"], tuple(rule["datasets"]))
    known = [method for method in amendment["before"]["config"]["methods"] if method != baseline]
    on_sets = tuple(
        pair
        for dataset in rule["sets"]
        for pair in pairs_of(shown, [(m, baseline) for m in known], "added set", (dataset,))
    )
    size, alpha, margin = len(by_rule) + len(on_sets), rule["alpha"], rule["margin"]
    design = designs({**rule, "sizes": {name: size}}).get(name)
    found = compare(Family(name=name, pairs=on_sets, size=size, design=design), alpha, margin)
    found = (*_by_rule(by_rule, rule, record, name, size, design), *found)
    looking = any(c.course is not None and not c.course.ended for c in found)
    lacking = _lacks_seeds(by_rule, rule) or any(not pair.method.means(pair.datasets) for pair in on_sets)
    return Addition(
        time=rule["time"],
        added=tuple(amendment["added"]),
        seen=Seen(**amendment["seen"]).in_words(),
        alpha=alpha,
        open=looking or lacking,
        comparisons=tuple(replace(c, verdict="undecided", sentence=_waits(c)) for c in found) if lacking else found,
    )


def _by_rule(
    pairs: tuple[Pair, ...], rule: Record, record: Record, name: str, size: int, design: stats.Design | None
) -> tuple[Comparison, ...]:
    if not pairs:
        return ()
    family = Family(name=name, pairs=pairs, size=size, design=design)
    found = compare(family, rule["alpha"], rule["margin"])
    if design is None:
        return found
    looked, _ = sequential.run_until_decided(family, found, design, {**record, "registration": rule}, rule["alpha"])
    return looked


def _lacks_seeds(pairs: Sequence[Pair], rule: Record) -> bool:
    """Whether a fixed number of seeds is not there yet; a rule of looks says itself what is open."""
    wanted = set(rule["seeds"])
    trials = [t for pair in pairs for t in (pair.method, pair.against)]
    return not designs(rule) and any(not t.deterministic and not wanted <= t.seeds for t in trials)


def _waits(c: Comparison) -> str:
    return f"{c.method} against {c.against}: trials are still to come."


def extensions(
    scores: Scores, record: Record, decided: Mapping[str, tuple[Comparison, ...]]
) -> tuple[tuple[Comparison, ...], tuple[Sharpened, ...]]:
    """What seeds beyond the registered ones say: of each pair that these left undecided, a test that holds at any
    number of seeds; of each that has its verdict, a sharper estimate, which changes nothing. `decided` are the
    registered comparisons by family; `scores` are all there are."""
    registered = record.get("registration")
    if registered is None or (rule := extended(record, registered)) is None:
        return (), ()
    tested, sharper = list[Comparison](), list[Sharpened]()
    for family, design in designs(rule).items():
        comparisons = [c for c in decided.get(family.removesuffix("-extended"), ()) if c.paired is not None]
        left = [(c.method, c.against) for c in comparisons if c.verdict == "undecided"]
        pairs = pairs_of(scores, left, rule["endpoint"], tuple(rule["datasets"]))
        together = Family(name=family, pairs=pairs, size=design.size, design=design)
        found = compare(together, design.alpha, rule["margin"])
        looked, _ = sequential.run_until_decided(
            together, found, design, {**record, "registration": rule}, design.alpha
        )
        tested += looked
        known = [(c.method, c.against) for c in comparisons if c.verdict != "undecided"]
        with_all = Family(name=family, pairs=pairs_of(scores, known, rule["endpoint"], tuple(rule["datasets"])))
        for c in compare(with_all, registered["alpha"], rule["margin"]):
            if (d := c.paired) is not None and d.lo is not None and d.hi is not None:
                ends = f"{pp(d.lo, signed=True)} to {pp(d.hi, signed=True)}"
                words = (
                    f"{c.method} against {c.against}: {pp(d.mean, signed=True)} pp ({ends}) over {count(d.n, 'seed')}"
                )
                sharper.append(Sharpened(method=c.method, against=c.against, sentence=words))
    return tuple(tested), tuple(sharper)


def headline(additions: Sequence[Addition], tested: Sequence[Comparison]) -> str:
    """What a reader of the first sentence must know of what was added; "" for nothing."""
    said = []
    for each in additions:
        if each.comparisons:
            what = "still open" if each.open else _verdicts(each.comparisons) or "no verdict"
            said.append(f" Added on {each.time[:10]}, when this was known: {what}.")
    if tested:
        said.append(f" With seeds added later, at a tenth of the error: {_verdicts(tested) or 'nothing is decided'}.")
    return "".join(said)


def _verdicts(comparisons: Sequence[Comparison]) -> str:
    links = {"better": "than", "worse": "than", "equivalent": "to"}
    found = [f"{c.method} {c.verdict} {links[c.verdict]} {c.against}" for c in comparisons if c.verdict in links]
    return in_list(found) if found else ""
