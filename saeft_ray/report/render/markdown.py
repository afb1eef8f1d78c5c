"""The report as Markdown, with the same content as the page."""

import re
from collections.abc import Iterable, Mapping

from saeft_ray.report.content import Report
from saeft_ray.report.render.blocks import (
    Block,
    Bullets,
    Card,
    Cards,
    Chip,
    Facts,
    FeatureCard,
    FeatureCards,
    Folded,
    Heading,
    Link,
    PictureTable,
    Plot,
    PlotGrid,
    Section,
    Small,
    Span,
    Strong,
    Symbol,
    Table,
    Text,
    Words,
    spans,
)  # fmt: skip
from saeft_ray.report.render.sections import sections

_HEADINGS = {"head": "# ", "plain": "## ", "warning": "## "}


def render(report: Report, drawn: Mapping[str, str]) -> str:
    """The report; the plots of `drawn` are linked as files next to it."""
    return write(sections(report), drawn)


def write(parts: Iterable[Section], drawn: Mapping[str, str]) -> str:
    """Sections under each other."""
    out: list[str] = []
    for section in parts:
        if section.frame in _HEADINGS:
            out.append(_HEADINGS[section.frame] + _text(section.title))
        for block in section.blocks:
            out += _block(block, drawn)
    return "\n\n".join(out) + "\n"


def _block(block: Block, drawn: Mapping[str, str]) -> Iterable[str]:
    match block:
        case Text():
            yield _words(block.words)
        case Bullets():
            yield _bullets(map(_point, block.lines))
        case Cards():
            yield _bullets(map(_card, block.cards))
        case Table():
            yield _table(block)
        case Plot():
            if block.name in drawn:
                yield f"![{_text(block.title)}]({block.name}.svg)"
                yield _text(block.caption)
        case PlotGrid():
            for plot in (plot for column in block.columns for plot in column):
                yield from _block(plot, drawn)
        case Facts():
            yield _bullets(f"{_text(name)}: {_text(value)}" for name, value in block.facts)
        case Heading():
            yield f"### {_text(block.text)}"
        case FeatureCards():
            for feature in block.cards:
                yield from _feature(feature)
        case PictureTable():
            yield _specimens(block)
        case Folded():
            yield f"### {_text(block.title)}"
            for part in block.blocks:
                yield from _block(part, drawn)


def _card(card: Card) -> str:
    note = f" {_text(card.note)}" if card.note else ""
    return f"**{_text(card.title)}: {card.verdict}.** {_text(card.text)}{note}"


def _feature(card: FeatureCard) -> Iterable[str]:
    yield f"#### {_text(card.title)}"
    yield _text(card.note)
    yield _bullets(f"{_text(line.label)}: **{line.text}** {_text(line.note)}" for line in card.effects)
    if said := [f"{_text(line.title)}: {_text(line.note)}. {_text(line.says)}".rstrip()
                for line in card.pictures if line.note]:  # fmt: skip
        yield _bullets(said)


def _specimens(it: PictureTable) -> str:
    head = ["", *map(_text, it.columns)]
    lines = [[_text(name), *(_text(cell.text) if cell else "–" for cell in cells)] for name, cells in it.lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def _table(table: Table) -> str:
    head = [_words(column.title) for column in table.columns]
    rule = ["---" if k == 0 or column.align else "---:" for k, column in enumerate(table.columns)]
    lines = [[part for cell in line for part in (_words(cell.words), *[""] * (cell.span - 1))] for line in table.lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _point(words: Words) -> str:
    # In running text a verdict is a sentence of its own.
    return "".join(f"{span.verdict}." if isinstance(span, Chip) else _span(span) for span in spans(words))


def _words(words: Words) -> str:
    return "".join(map(_span, spans(words)))


def _span(span: Span) -> str:
    match span:
        case Strong():
            return f"**{_text(span.text)}**"
        case Symbol():
            return _text(f"{span.text}_{span.index}" if span.index else span.text)
        case Chip():
            return span.verdict
        case Small():
            return _text(span.text)
        case Link():
            return f"[{_text(span.text)}]({span.href})"
        case _:
            return _text(span)


def _text(text: str) -> str:
    """Text that Markdown shows as it is."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|").replace("\n", " ")
    return re.sub(r"([`\[\]_])", r"\\\1", plain)
