"""How the sweep was made: what a reader needs to repeat it."""

from saeft_ray.report.content import Report
from saeft_ray.report.render.blocks import Block, Facts, Heading, Section, Text

ORDER = 125


def section(report: Report) -> Section | None:
    """Methods, training, data and dictionary; of a table, that nothing of this is known."""
    title = "How it was made"
    if report.recipe is None:
        words = "These numbers came as a table: how the methods were trained, and on which data, is not known here."
        return Section(title=title, blocks=(Text(words=words),)) if report.source else None
    found = (
        ("What each method is", report.recipe.methods),
        ("Recipe", report.recipe.training),
        ("Data", report.recipe.data),
        ("Dictionary", report.recipe.dictionary),
    )
    blocks: list[Block] = []
    for heading, facts in found:
        if facts:
            blocks += [Heading(text=heading), Facts(facts=tuple((fact.name, fact.value) for fact in facts))]
    return Section(title=title, blocks=tuple(blocks))
