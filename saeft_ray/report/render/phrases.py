"""Numbers, table cells and notes in words."""

import json
from collections.abc import Mapping

from saeft_ray.report.content import Comparison, LookTaken, PhaseSummary, Report, SearchSummary, Verdict
from saeft_ray.report.numbers import MISSING, count, in_list, number, p_value, percent, pp

MARKS: dict[Verdict, str] = {"better": "▲", "worse": "▼", "equivalent": "≈", "identical": "=", "undecided": "?"}


def secondary(comparisons: tuple[Comparison, ...]) -> str:
    """What the single OOD sets say about one method, in one sentence."""
    groups: dict[str, list[str]] = {}
    for c in comparisons:
        groups.setdefault(c.verdict, []).append(c.datasets[0])
    phrases = {"better": "better on", "worse": "worse on", "equivalent": "equivalent on", "identical": "identical on"}
    parts = [f"{text} {in_list(groups[v])}" for v, text in phrases.items() if v in groups]
    if "undecided" in groups:
        parts.append(f"no statement on {in_list(groups['undecided'])}")
    return "; ".join(parts)


def spent(search: SearchSummary) -> str:
    """What was tried for a method before confirm, and how its configuration did there."""
    if not search.search.trials and not search.rerank.trials:
        return "not searched"
    parts = []
    for phase, verb in ((search.search, "tried"), (search.rerank, "ranked again")):
        if not phase.trials:
            continue
        text = f"{count(phase.configurations, 'configuration')} {verb} in {count(phase.trials, 'trial')}"
        text += f" on {count(len(phase.seeds), 'seed')}" if phase.seeds else ""
        lost = [f"{n} {word}" for n, word in ((phase.failed, "failed"), (phase.stopped, "stopped early")) if n]
        parts.append(text + (f" ({in_list(lost)})" if lost else ""))
    chosen = f"; chosen by {search.metric} on {in_list(search.selected_on)}" if search.selected_on else ""
    return ", then ".join(parts) + chosen


def which_value_mattered(search: SearchSummary) -> str:
    """What is known of the importance of the values that a search left open, in one line; empty without a history."""
    if search.history is None or not search.history.suggestions:
        return ""
    known, finished = search.history.importance, len(search.history.expected_best)
    values = len(search.history.suggestions[0].values)
    if values < 2:
        return f"{search.method}: one value was open."
    if not known:
        text = f"{search.method}: {count(finished, 'finished trial')} cannot tell {values} values apart"
        return f"{text} ({search.history.enough} needed)."
    parts = [f"{i.name} {percent(i.share, 0)} % (by chance up to {percent(i.chance, 0)} %)" for i in known]
    above = [i.name for i in known if i.share > i.chance]
    verdict = f"{in_list(above)} beyond chance" if above else "none beyond chance"
    return f"{search.method}: {', '.join(parts)}; {verdict}."


def chosen(phase: PhaseSummary) -> str:
    """The score of the chosen configuration in one phase, in %."""
    if phase.chosen_score is None:
        return MISSING
    text = f"{percent(phase.chosen_score, 2)} ({count(phase.chosen_seeds, 'seed')})"
    if phase.best_score is not None and phase.best_score > phase.chosen_score:
        text += f", best {percent(phase.best_score, 2)}"
    return text


def settings(values: Mapping[str, object]) -> str:
    """A method's settings in one line, to four digits; `report.json` has them all."""
    hidden = {"type", "base"}  # the base of a derived method is named by its `of`
    return ", ".join(f"{key} {_setting(value)}" for key, value in values.items() if key not in hidden) or MISSING


def _setting(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def difference(c: Comparison) -> str:
    """`+4.22 pp (3.87 to 4.57)`."""
    if c.paired is None:
        return MISSING
    text = f"{pp(c.paired.mean, signed=True)} pp"
    if c.paired.lo is not None and c.paired.hi is not None:
        text += f" ({pp(c.paired.lo)} to {pp(c.paired.hi)})"
    return text


def interval_name(c: Comparison) -> str:
    """What the interval of `c` is: `95 % CI`, or one that holds at every look."""
    level = 95 if c.paired is None else round(100 * c.paired.confidence)
    if c.correction != "looks":
        return f"{level} % CI{', spread pooled' if c.pooled else ''}"
    engine = c.course.engine if c.course is not None else None
    return f"{level} % {'confidence sequence' if engine == 'anytime' else 'repeated CI'}"


def corrected(comparisons: tuple[Comparison, ...]) -> str:
    """How the p-values of one family were corrected, for a note."""
    if any(c.correction == "looks" for c in comparisons):
        return "Holm over all of them, at p-values that hold for any look"
    if any(c.correction == "max-T" for c in comparisons):
        return "step-down max-T over all of them, by flipping whole seeds"
    return "Holm over all of them"


def how_to_read_looks(c: Comparison, alpha: float) -> str:
    """What a reader must know of a family that ran until decided."""
    if c.course is None:
        return ""
    level = f"{100 * alpha:g} %"
    return (
        f"After every seed from {c.course.first} to {c.course.last} a look was taken; a method got no more seeds once "
        f"it was decided. The boundary is the size of t that decides; over all looks and "
        f"{count(c.family_size, 'method')} the error is {level}. "
        "Intervals and p-values are made for looking often: they hold at every look, and are wider than those for one."
    )


def sequential_comparisons(report: Report) -> list[Comparison]:
    """The comparisons that ran until decided: those with the baseline, then the declared pairs."""
    return [c for c in (*report.primary, *report.controls) if c.course is not None]


def declared(report: Report) -> list[Comparison]:
    """The declared pairs whose sentence no other section tells."""
    told = {(control.comparison.method, control.comparison.against) for control in report.load_bearing}
    return [c for c in report.controls if (c.method, c.against) not in told]


def named(c: Comparison, baseline: str | None) -> str:
    """The method, and what it is compared with unless that is the baseline."""
    return c.method if c.against == baseline else f"{c.method} against {c.against}"


def look_cells(look: LookTaken) -> list[str]:
    """One line of the look log: seeds, pairs, difference with its interval, t, boundary, sequential p."""
    difference = MISSING if look.mean is None else pp(look.mean, signed=True)
    if look.lo is not None and look.hi is not None:
        difference += f" ({pp(look.lo)} to {pp(look.hi)})"
    t, boundary = (MISSING if value is None else number(value) for value in (look.t, look.boundary))
    return [str(look.n), str(look.pairs), difference, t, boundary, p_value(look.p).removeprefix("= ")]


def how_to_read(baseline: str | None, alpha: float, source: str | None = None) -> str:
    """Three sentences for a reader who has never seen such a page."""
    level = round(100 * (1 - alpha))
    start = "After its settings were chosen, every method was run on fresh seeds and compared"
    if source is not None:
        start = f"The numbers come from {source}; every method is compared"
    return (
        f"{start} with {baseline or 'another'} seed by seed; a difference is in percentage points (pp) of accuracy. "
        f"An interval (CI) is drawn so that {level} of 100 such intervals contain the true mean difference over new "
        "seeds; p-values and verdicts are corrected for the number of comparisons, single intervals are not. "
        "“Undecided” means that these seeds do not settle the question, never that two methods are equal."
    )


HOW_TO_READ_SEARCH = (
    "Dots are finished trials on the selection split (hollow: stopped early), in the order of the search. Expected "
    "best: of so many of these trials in random order. Order matters here, for later trials were suggested from "
    "earlier ones, so this is not an expected-validation-performance curve, and it says nothing of a budget that was "
    "not spent."
)
HOW_TO_READ_IMPORTANCE = (
    "Share of each open value in reaching the best quarter of the scores (Optuna, PED-ANOVA). Shares of nothing sum to "
    "100 % as well: by chance is what one search in twenty exceeds when its scores are shuffled."
)
