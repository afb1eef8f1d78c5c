"""How the configurations were chosen, and what that cost."""

import json
from collections.abc import Mapping

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import MISSING, count, in_list, percent, pp
from saeft_ray.report.render.blocks import Block, Bullets, Column, Folded, Plot, Section, Text, Words, table
from saeft_ray.report.searched import PhaseSummary, SearchSummary
from saeft_ray.report.strengths import ONE_CHOICE, Chosen

ORDER = 110
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


def section(report: Report) -> Section | None:
    """The search of each method: what was tried, the scores in order, and which open value mattered."""
    if not report.searches:
        return None
    fresh = count(len(report.confirm_seeds), "fresh seed")
    start = f"What was tried before the numbers above, which come from {fresh}. {_claims(report)}"
    if not any(s.search.trials for s in report.searches):
        start = f"No method was searched. The numbers above come from {fresh}, with the settings of the sweep file."
    note = "Scores that chose a configuration are optimistic and are not evidence."
    blocks: list[Block] = [
        Text(words=start),
        table(_HEAD, [_line(report, s) for s in report.searches]),
        Text(words=note, style="note"),
        *_choices(report),
        Plot(name="search", title="Scores of each search in order", caption=HOW_TO_READ_SEARCH),
    ]
    if mattered := tuple(line for line in map(which_value_mattered, report.searches) if line):
        importance = (Text(words=HOW_TO_READ_IMPORTANCE, style="note"), Bullets(lines=mattered, style="note"))
        blocks.append(Folded(title="Which open value mattered", blocks=importance))
    return Section(title="Selection and budget", blocks=tuple(blocks))


def _claims(report: Report) -> str:
    """What verdicts are about, the choice of the values included or not."""
    if any(c.tuned for c in report.primary):
        return (
            "Claims are about methods as tuned where several configurations share the seeds: their intervals contain "
            "what another choice would change."
        )
    text = "Claims are about the chosen configurations, not about the tuning: another search may choose others."
    return f"{text} {ONE_CHOICE}" if report.dealt else text


_GREW = (
    "The sweep grew after its registration. Where search or rerank grew with it, this table counts their later trials, "
    "too; what was chosen and confirmed stays what the registration found."
)

_HEAD = (
    "method",
    Column(title="spent", align="wide"),
    Column(title="chosen settings", align="wide"),
    "its score in search, %",
    "in rerank, %",
)


def _choices(report: Report) -> tuple[Block, ...]:
    """What the rule gave away for each method, and ranges that were too narrow."""
    if not report.choices:
        return ()
    head = (
        "method",
        Column(title="rule", align="wide"),
        "eligible",
        "threshold, %",
        "chosen, %",
        "its KL",
        Column(title="the best would be", align="wide"),
        "steady",
    )
    lines: list[tuple[Words, ...]] = [
        (
            each.method,
            each.rule + (f" ({each.fallback})" if each.fallback else ""),
            f"{each.eligible} of {each.configurations}",
            MISSING if each.threshold is None else percent(each.threshold, 2),
            MISSING if each.score is None else percent(each.score, 2),
            MISSING if each.kl is None else f"{each.kl:.3f}",
            _best(each),
            MISSING if each.steady is None else f"{percent(each.steady, 0)} %",
        )
        for each in report.choices
    ]
    note = (
        "KL: how far the answers moved from those of the frozen model, in nats per selection image. Steady: the share "
        "of redrawn accuracies that choose this strength within one step; each is redrawn by its own noise."
    )
    steady = tuple(line for each in report.choices if (line := _runner_up(each)))
    edges = steady + tuple(f"{each.method}: {words}; a wider range may hold a better one." for each in report.choices
                  for words in each.edges)  # fmt: skip
    found: tuple[Block, ...] = (table(head, lines), Text(words=note, style="note"))
    if report.additions:
        found = (*found, Text(words=_GREW, style="note"))
    return (*found, Bullets(lines=edges, style="note")) if edges else found


def _best(each: Chosen) -> str:
    """What the best accuracy would have chosen."""
    if each.is_best or each.best_score is None:
        return "the same" if each.score is not None else MISSING
    return f"{each.best_values} ({percent(each.best_score, 2)})"


def _runner_up(each: Chosen) -> str:
    """How close the second configuration of a rule was, and how many the rerank cannot tell from the chosen one."""
    if each.runner_up is None:
        return ""
    values, difference, se = each.runner_up
    error = "" if se is None else f" (standard error {pp(se)})"
    off = f"{pp(abs(difference))} points {'more' if difference > 0 else 'less'} accurate{error}"
    off = off if difference else f"as accurate{error}"
    alike = "can tell the chosen one from every other" if not each.alike else (
        f"cannot tell {count(each.alike, 'other')} from the chosen one"
    )  # fmt: skip
    return f"{each.method}: the runner-up ({values}) is {off}; the rerank {alike}."


def _line(report: Report, search: SearchSummary) -> tuple[Words, ...]:
    values = "".join(settings(method.settings) for method in report.methods if method.name == search.method)
    return search.method, spent(search), values, chosen(search.search), chosen(search.rerank)


def spent(search: SearchSummary) -> str:
    """Say what was tried for a method before confirm, and how its configuration did there."""
    if not search.search.trials and not search.rerank.trials:
        return "not searched"
    parts = []
    for phase, verb in ((search.search, "tried"), (search.rerank, "ranked again")):
        if not phase.trials:
            continue
        text = f"{count(phase.configurations, 'configuration')} {verb} in {count(phase.trials, 'trial')}"
        text += f" on {count(len(phase.seeds), 'seed')}" if phase.seeds else ""
        ends = ((phase.failed, "failed"), (phase.stopped, "stopped early"), (phase.on_purpose, "stopped on purpose"))
        lost = [f"{n} {word}" for n, word in ends if n]
        parts.append(text + (f" ({in_list(lost)})" if lost else ""))
    chosen = f"; chosen by {search.metric} on {in_list(search.selected_on)}" if search.selected_on else ""
    return ", then ".join(parts) + chosen


def which_value_mattered(search: SearchSummary) -> str:
    """Say what is known of the importance of the values that a search left open; empty without a history."""
    if search.history is None or not search.history.suggestions:
        return ""
    known, finished = search.history.importance, len(search.history.expected_best)
    values = len(search.history.suggestions[0].values)
    if values < 2:
        return f"{search.method}: one value was open."
    if not known:
        text = f"{search.method}: {count(finished, 'finished trial')} cannot distinguish {values} values"
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
