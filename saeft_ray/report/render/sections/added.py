"""What was added after the registration, when, and what had been seen by then."""

from saeft_ray.report.content import Addition, Comparison, Report
from saeft_ray.report.render.blocks import Block, Bullets, Chip, Section, Strong, Text, Words

ORDER = 45


def section(report: Report) -> Section | None:
    """Each addition with its verdicts, then what seeds beyond the registered ones say."""
    if not report.additions:
        return None
    start = (
        "The sections above are the registered analysis: its methods, test sets and seeds. This came later. All "
        "additions share one further error level, of which each takes half of what the ones before left."
    )
    blocks: list[Block] = [Text(words=start, style="note")]
    for each in report.additions:
        blocks += _addition(each)
    if report.extended:
        text = (
            "Seeds beyond the registered ones. The registered tests have spent their error, so that what they left "
            "undecided is tested at a tenth of it, by a test that holds at any number of seeds:"
        )
        blocks += [Text(words=text), Bullets(lines=tuple(map(_line, report.extended)))]
    if report.sharpened:
        text = "What has its verdict keeps it. With all seeds its estimate is (t interval):"
        blocks += [Text(words=text), Bullets(lines=tuple(each.sentence for each in report.sharpened))]
    return Section(title="Added later", blocks=tuple(blocks))


def _addition(each: Addition) -> list[Block]:
    when = (Strong(f"{each.time[:16].replace('T', ' ')}:"), f" {'; '.join(each.added)}. By then: {each.seen}.")
    if not each.comparisons:
        return [Text(words=when)]
    level = f"Its comparisons are a family of their own, with an error of {100 * each.alpha:g} %:"
    return [Text(words=when), Text(words=level), Bullets(lines=tuple(map(_line, each.comparisons)))]


def _line(c: Comparison) -> Words:
    return (Strong(f"{c.label} against {c.against}:"), " ", Chip(c.verdict), f" {c.sentence}")
