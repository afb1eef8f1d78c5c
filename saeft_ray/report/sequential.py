"""Families that ran until decided: their looks, taken again from the rows, and the verdicts that follow."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from saeft_ray import stats
from saeft_ray.records.amendments import as_registered
from saeft_ray.records.earlier import KEY, in_words
from saeft_ray.records.merged import made_of, until_decided
from saeft_ray.records.preregistration import FIXED, designs, name_of, preregistration, same_look
from saeft_ray.report import verdicts
from saeft_ray.report.comparisons import Family, Pair, floor_of
from saeft_ray.report.content import Comparison, LookTaken, SequentialRun, Verdict
from saeft_ray.report.numbers import in_list
from saeft_ray.report.scores import Scores


def rules(record: Mapping[str, Any]) -> dict[str, stats.Design]:
    """The rule of each registered family; none for a fixed number of seeds or without a registration."""
    return designs(record["registration"]) if "registration" in record else {}


def deviations(record: Mapping[str, Any]) -> list[str]:
    """Why the sweep's tests are exploratory, as words: it is a merge of others, differs from its registration, or its
    design from that of a sweep that opened the same test sets with the same seeds."""
    if made := made_of(record):
        return _of_a_merge(record, made)
    registered = dict(record.get("registration") or {})
    if not registered:
        return []
    after_a_look = in_words(registered.pop(KEY, []), changed=True)
    looked = [f"{after_a_look}, whose settings were others"] if after_a_look else []
    return looked + _from_registration(record, registered)


def _of_a_merge(record: Mapping[str, Any], made: str) -> list[str]:
    said = [
        f"this is {made}, and nobody registered what it tests: results were known when it was made. Its tests are a "
        "family of their own, corrected over its own comparisons; what each of the sweeps registered, its own report "
        "answers"
    ]
    if names := until_decided(record):
        said.append(
            f"seeds of {in_list(names)} came until results were decided, so their number depends on the results: read "
            "these intervals as descriptions"
        )
    return said


def _from_registration(record: Mapping[str, Any], registered: Mapping[str, Any]) -> list[str]:
    implied = preregistration(as_registered(record))
    keys = sorted(registered.keys() | implied.keys())
    changed = [key for key in keys if registered.get(key) != implied.get(key)]
    if not changed:
        return []
    text = f"the sweep differs from its registration in {in_list(changed)}"
    if "looks" in changed and implied["looks"][-1] > registered["looks"][-1]:
        # More seeds than registered are another experiment: the error is spent (docs/statistics.md 5.11).
        text += f"; exploratory from seed {registered['looks'][-1] + 1} on"
    return [text]


def unfinished(record: Mapping[str, Any], scores: Scores) -> bool:
    """Whether a registered sweep of a fixed number of seeds still lacks trials."""
    registered = record.get("registration")
    if registered is None or registered["engine"] != FIXED:
        return False
    trials = {name: scores.methods.get(name) for pairs in registered["families"].values() for p in pairs for name in p}
    wanted = set(registered["seeds"])
    return any(t is None or not (t.deterministic or wanted <= t.seeds) for t in trials.values())


def run_until_decided(
    family: Family, comparisons: Sequence[Comparison], design: stats.Design, record: Mapping[str, Any], alpha: float
) -> tuple[tuple[Comparison, ...], list[str]]:
    """`comparisons` with the verdicts of the looks, and what contradicts the log that the sweep kept."""
    seeds: list[int] = record["registration"]["seeds"]
    testable = [p for p in family.pairs if not (p.method.deterministic and p.against.deterministic)]
    differences = {_name(pair): _differences(pair, seeds) for pair in testable}
    looks = stats.replay(design, differences, {_name(pair): floor_of(pair) for pair in testable})
    ended = bool(looks) and looks[-1].n == design.last
    out = []
    for pair, c in zip(family.pairs, comparisons, strict=True):
        steps = [(look.n, step) for look in looks for step in look.steps if step.name == _name(pair)]
        p = stats.running_p(design, [step for _, step in steps])
        taken = tuple(
            LookTaken(
                n=n, pairs=s.pairs, mean=s.mean, sd=s.sd, t=s.t, level=s.level, boundary=s.boundary, lo=s.lo, hi=s.hi,
                p=q, verdict=s.decision,
            )
            for (n, s), q in zip(steps, p, strict=True)
        )  # fmt: skip
        done = ended or bool(taken and taken[-1].verdict != "undecided")
        course = SequentialRun(engine=design.engine, first=design.first, last=design.last, ended=done, looks=taken)
        if taken and taken[-1].verdict != "undecided":
            course = replace(course, overrun=_overrun(c, taken[-1], seeds, record["registration"]["overrun"], alpha))
        out.append(_told(c, course, seeds, alpha, bool(pair.method.lacking or pair.against.lacking)))
    mine = [{"family": family.name, "n": k.n, "steps": [asdict(step) for step in k.steps]} for k in looks]
    kept = [look for look in record.get("looks", []) if look["family"] == family.name]
    differ = any(not same_look(a, b) for a, b in zip(mine, kept, strict=False)) or len(kept) > len(mine)
    return tuple(out), [
        f"the looks of the {family.name} family differ from the log kept while it ran"
    ] if differ else []


def _overrun(
    c: Comparison, last: LookTaken, seeds: Sequence[int], more: int, alpha: float
) -> tuple[int, float, float] | None:
    """The t interval with `more` seeds after the verdict, which dilute what early stopping exaggerates
    (docs/statistics.md 3.8)."""
    within = set(seeds[: last.n + more])
    points = [p for p in c.points if p.seed in within]
    if len(points) <= last.pairs or not more:
        return None
    found = stats.paired([p.method for p in points], [p.against for p in points], confidence=1 - alpha)
    return None if found.lo is None or found.hi is None else (found.n, found.lo, found.hi)


def _told(c: Comparison, course: SequentialRun, seeds: Sequence[int], alpha: float, failed: bool) -> Comparison:
    """`c` as of its last look: later seeds of a decided method take no part."""
    c = replace(c, correction="looks", course=course, p_adjusted=None)
    if not course.looks or c.paired is None:
        text = f"no look has been taken yet; the first comes with {course.first} seeds"
        c = replace(c, paired=None, points=(), verdict="undecided", refused=c.refused or text)
        return replace(c, sentence=verdicts.sequential(c, alpha, failed))
    last = course.looks[-1]
    within = set(seeds[: last.n])
    points = tuple(p for p in c.points if p.seed in within)
    if not points:
        c = replace(c, paired=None, points=(), verdict="undecided", refused="no seed was finished by both")
        return replace(c, sentence=verdicts.sequential(c, alpha, failed))
    paired = stats.paired([p.method for p in points], [p.against for p in points], confidence=1 - alpha)
    paired = replace(paired, t=last.t, sd=last.sd, p=last.p, lo=last.lo, hi=last.hi, sign_flip_p=None)
    verdict: Verdict = (
        "identical" if paired.identical and last.verdict == "undecided" and course.ended else last.verdict
    )
    dropped = tuple(s for s in seeds[: last.n] if s not in {p.seed for p in points})
    c = replace(c, paired=paired, points=points, verdict=verdict, dropped_seeds=dropped)
    return replace(c, sentence=verdicts.sequential(c, alpha, failed or bool(dropped)))


def _name(pair: Pair) -> str:
    return name_of(pair.method.method, pair.against.method)


def _differences(pair: Pair, seeds: Sequence[int]) -> list[float | None]:
    """By registered seed, as far as both have ended; None where either has no finished number."""
    a, b = pair.method.means(pair.datasets), pair.against.means(pair.datasets)
    out: list[float | None] = []
    for seed in seeds:
        keys = [None if t.deterministic else seed for t in (pair.method, pair.against)]
        if keys[0] not in pair.method.seeds or keys[1] not in pair.against.seeds:
            break
        x, y = a.get(keys[0]), b.get(keys[1])
        out.append(None if x is None or y is None else x - y)
    return out
