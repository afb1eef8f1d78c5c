"""The head of the report: its name, its size, the one sentence, and how to read the rest."""

from saeft_ray.report.choices import NOISY
from saeft_ray.report.content import Report
from saeft_ray.report.numbers import count, in_list, percent, pp
from saeft_ray.report.render.blocks import Section, Strong, Text
from saeft_ray.report.strengths import ONE_CHOICE

ORDER = 0


def section(report: Report) -> Section:
    """The head; every report has one."""
    reading = (Strong("How to read this."), f" {how_to_read(report)}")
    blocks = [Text(words=_size(report), style="meta")]
    if report.open:
        still = " no verdict before the rule says so. Trials are still to come."
        blocks.append(Text(words=(Strong("Open:"), still), style="open"))
    blocks += [Text(words=report.headline, style="headline"), Text(words=reading, style="read")]
    if report.choices:
        blocks.append(Text(words=(Strong("How values were chosen."), f" {how_chosen(report)}"), style="read"))
    return Section(title=report.name, blocks=tuple(blocks), frame="head")


def _size(report: Report) -> str:
    parts = [
        count(len(report.methods), "method"),
        count(len(report.confirm_seeds), "confirm seed"),
        count(len(report.id_sets + report.ood_sets + report.added_sets), "test set"),
        f"baseline {report.baseline}" if report.baseline else "",
        f"margin {'none declared' if report.margin is None else f'±{pp(report.margin)} pp'}",
        report.created[:10] if report.created else "",
    ]
    return " · ".join(part for part in parts if part)


def how_chosen(report: Report) -> str:
    """The rule of the sweep, and for which methods its choice would often be another on other selection images."""
    rules = list(dict.fromkeys(each.rule for each in report.choices))
    text = f"By {in_list(rules)}, on the selection split alone; registered before any test set was opened."
    noisy = [each for each in report.choices if each.steady is not None and each.steady < NOISY]
    if noisy:
        listed = in_list([f"{each.method} ({percent(each.steady or 0, 0)} %)" for each in noisy])
        text += (
            f" The choice was noisy: with other selection images of that number, the same strength would have been "
            f"chosen in this share of draws: {listed}. {_about(report)}"
        )
    return text


def _about(report: Report) -> str:
    if any(c.tuned for c in report.primary):
        return "Verdicts are about methods as tuned: their intervals contain the choice."
    if report.dealt:
        return f"Verdicts are about the chosen configuration. {ONE_CHOICE}"
    return "Verdicts are about the chosen configuration; `confirm: {choices: tied}` asks about methods as tuned."


def how_to_read(report: Report) -> str:
    """Three sentences for a reader who has never seen such a page."""
    level, source = round(100 * (1 - report.alpha)), report.source
    how = "seed by seed"
    if report.unpaired:
        how += " where they share seeds, and else as two samples (“unpaired”)"
    start = "Every method was run with the settings that the sweep file gives and compared"
    if any(s.search.trials for s in report.searches):
        start = "After its settings were chosen, every method was run on fresh seeds and compared"
    if source is not None:
        start = f"The numbers come from {source}; every method is compared"
    return (
        f"{start} with {report.baseline or 'another'} {how}; a difference is in percentage points (pp) of "
        f"{report.metric}. "
        f"An interval (CI) is drawn so that {level} of 100 such intervals contain the true mean difference over new "
        "seeds; p-values and verdicts are corrected for the number of comparisons, single intervals are not. "
        "“Undecided” means that these seeds do not settle the question, never that two methods are equal."
    )
