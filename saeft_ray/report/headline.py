"""The headline of a report: who is better on OOD sets and at which cost in ID {q}, and whether the SAE matters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from saeft_ray.report.content import Comparison, Control
from saeft_ray.report.numbers import in_list, pp, where
from saeft_ray.report.standing import Standing
from saeft_ray.report.strengths import Strengths

_PHRASES = {
    "open": "still open: {m}",
    "better": "better than {b}: {m}",
    "better, ID undecided": "better than {b}, with ID {q} undecided: {m}",
    "better, ID worse": "a trade-off, better than {b} but with less ID {q}: {m}",
    "worse, ID better": "a trade-off, worse than {b} but with more ID {q}: {m}",
    "worse": "worse than {b}: {m}",
    "equivalent": "equivalent to {b} within the margin: {m}",
    "equivalent, ID worse": "equivalent to {b} within the margin, but with less ID {q}: {m}",
    "identical": "identical scores to {b}: {m}",
    "identical, ID worse": "identical scores to {b}, but less ID {q}: {m}",
    "undecided": "undecided: {m}",
    "undecided, ID worse": "undecided, and with less ID {q} than {b}: {m}",
}
_SAID = {
    "No": "{control} beats {sae}",
    "No, as good": "with {control} the result stays within the margin of {sae}",
    "No, the same": "{sae} and {control} have identical scores",
    "No answer": "{sae} or {control} did not move from the frozen model, or only guesses",
    "Open": "{sae} against {control} is not decided yet",
    "Not shown": "{sae} is not distinguished from {control}",
    "Yes, on these test sets": "{sae} beats {control}",
}
"""What is said of a trained SAE and its control, the answer that outweighs the others first."""


@dataclass
class _Said:
    """Methods by phrase, and what each is shown with."""

    groups: dict[str, list[str]] = field(default_factory=dict)

    def add(self, group: str, words: str) -> None:
        self.groups.setdefault(group, []).append(words)


def headline(
    comparisons: Sequence[Comparison], on_id: Sequence[Comparison], controls: Sequence[Control], standing: Standing,
    baseline: str | None, open_: bool = False, exploratory: bool = False, metric: str = "accuracy",
) -> str:  # fmt: skip
    """A sentence on all methods against the baseline, and one that answers the question about the SAE, if asked.

    A method that loses ID accuracy beyond the margin is a trade-off and no winner, and what was not fine-tuned, or did
    not move, is a reference and no winner either. `on_id` has the comparisons on ID sets where `comparisons` are on
    OOD sets.
    """
    if not comparisons:
        return "No comparison is possible yet: nothing can be said about any method."
    ids = {c.method: c for c in on_id}
    said, others = _Said(), _Said()
    for c in comparisons:
        name, its_id = c.method, ids.get(c.method)
        if name in standing.at_chance:
            others.add("at chance on every test set: {m}", c.label)
        elif (frozen := standing.unmoved.get(name)) is not None:
            others.add(f"did not move from {frozen} beyond {pp(standing.TOLERANCE)} pp on any test set: {{m}}", c.label)
        elif name in standing.references:
            others.add("for reference, without fine-tuning: {m}", _with_numbers(c, its_id))
        else:
            group = _group(c, its_id)
            said.add(group, _with_numbers(c, its_id) if "trade-off" in _PHRASES[group] else c.label)
    with_names = {v: {"b": baseline, "q": metric, "m": in_list(names)} for v, names in said.groups.items()}
    parts = [text.format(**with_names[v]) for v, text in _PHRASES.items() if v in with_names]
    parts += [text.format(m=in_list(names)) for text, names in others.groups.items()]
    place = where(comparisons[0].endpoint, comparisons[0].datasets)
    start = "Open: no verdict before the rule says so. " if open_ else ""
    start += "Exploratory, not as registered. " if exploratory else ""
    return f"{start}On {place} – " + "; ".join(parts) + "." + _about_the_sae(controls, standing, open_)


def _group(c: Comparison, on_id: Comparison | None) -> str:
    """Which phrase of `_PHRASES` a method falls under."""
    if c.course is not None and not c.course.ended:
        return "open"
    if on_id is None or on_id.paired is None:
        return c.verdict
    if c.verdict == "worse":
        return "worse, ID better" if on_id.verdict == "better" and not _within(on_id) else "worse"
    if on_id.verdict == "worse" and not _within(on_id):
        return f"{c.verdict}, ID worse"
    return "better, ID undecided" if (c.verdict, on_id.verdict) == ("better", "undecided") else c.verdict


def is_trade_off(c: Comparison, on_id: Comparison | None) -> bool:
    """Whether a method gains on one side, ID or OOD, and loses on the other beyond the margin."""
    return "trade-off" in _PHRASES[_group(c, on_id)]


def _within(c: Comparison) -> bool:
    """Whether a difference is inside the declared margin; without one, no difference is."""
    return c.margin is not None and c.paired is not None and abs(c.paired.mean) <= c.margin


def _with_numbers(c: Comparison, on_id: Comparison | None) -> str:
    if c.paired is None:
        return c.label
    numbers = f"{pp(c.paired.mean, signed=True)} pp"
    if on_id is not None and on_id.paired is not None:
        numbers += f", ID {pp(on_id.paired.mean, signed=True)} pp"
    return f"{c.method} ({numbers}{', unpaired' if c.unpaired else ''})"


def _about_the_sae(controls: Sequence[Control], standing: Standing, open_: bool) -> str:
    """The answer for the trained SAE against all its controls: the weakest of the single answers leads."""
    if not controls:
        return ""
    found: dict[str, list[str]] = {}
    for control in controls:
        c = control.comparison
        answer = _answer(c, standing, open_)
        found.setdefault(answer, []).append(_SAID[answer].format(sae=c.method, control=c.against))
    answers = [answer for answer in _SAID if answer in found]
    words = "; ".join(in_list(found[answer]) for answer in answers)
    return f" {controls[0].question} {answers[0].split(', as')[0].split(', the')[0]}: {words}."


def _answer(c: Comparison, standing: Standing, open_: bool) -> str:
    answers: Mapping[str, str] = {
        "better": "Yes, on these test sets",
        "worse": "No",
        "equivalent": "No, as good",
        "identical": "No, the same",
    }
    if standing.idle(c.method, c.against):
        return "No answer"
    waiting = open_ and not (c.course and c.course.ended)
    return answers.get(c.verdict) or ("Open" if waiting else "Not shown")


def at_equal_strength(load_bearing: Sequence[Control], strengths: Strengths | None) -> str:
    """The answers to the same question where strengths are equal, on the endpoint of the verdicts; "" without any."""
    pairs = [(control.comparison.method, control.comparison.against) for control in load_bearing]
    found = [each for pair in pairs if strengths and (each := strengths.answer(*pair))]
    said = [_EQUAL[each.verdict].format(each.method, each.against) for each in found]
    return f" At equal strength: {'; '.join(said)}." if said else ""


_EQUAL = {
    "better": "{} beats {}",
    "worse": "{1} beats {0}",
    "equivalent": "{} is equivalent to {} within the margin",
    "identical": "{} and {} have identical scores",
    "undecided": "{} is not distinguished from {}",
}
