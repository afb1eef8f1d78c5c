"""The parts that a section of a report is made of, as data: `html` and `markdown` each write every kind of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from saeft_ray.features.content import Image
from saeft_ray.features.content import Verdict as FeatureVerdict
from saeft_ray.report.content import Verdict


@dataclass(frozen=True)
class Strong:
    """Words in bold."""

    text: str
    kind: ClassVar[str] = "strong"


@dataclass(frozen=True)
class Small:
    """Words in small letters, where there are such letters."""

    text: str
    kind: ClassVar[str] = "small"


@dataclass(frozen=True)
class Symbol:
    """A mathematical symbol and its index."""

    text: str
    index: str = ""
    kind: ClassVar[str] = "symbol"


@dataclass(frozen=True)
class Chip:
    """A verdict, with its mark and colour where there are such."""

    verdict: Verdict
    kind: ClassVar[str] = "chip"


@dataclass(frozen=True)
class Link:
    """Words that lead to a file next to the report."""

    text: str
    href: str
    kind: ClassVar[str] = "link"


Span: TypeAlias = str | Strong | Small | Symbol | Chip | Link
Words: TypeAlias = Span | tuple[Span, ...]


def spans(words: Words) -> tuple[Span, ...]:
    """`words` as a row of spans."""
    return words if isinstance(words, tuple) else (words,)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph. `style` is its look on the page, a class of page.html."""

    words: Words
    style: Literal["", "note", "meta", "open", "headline", "read"] = ""
    kind: ClassVar[str] = "text"


@dataclass(frozen=True, kw_only=True)
class Bullets:
    """A list of points."""

    lines: tuple[Words, ...]
    style: Literal["", "note"] = ""
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True, kw_only=True)
class Card:
    """One verdict: about what, the sentence that says it, and a note. `big` repeats its number in large letters."""

    title: str
    verdict: Verdict
    text: str
    big: tuple[str, str] | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Cards:
    """Verdicts under each other, or side by side in a `grid`."""

    cards: tuple[Card, ...]
    grid: bool = False
    kind: ClassVar[str] = "cards"


@dataclass(frozen=True, kw_only=True)
class Column:
    """The title of a column. Its cells are numbers, words on the `left`, or `wide` text of several lines."""

    title: Words
    align: Literal["", "left", "wide"] = ""


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """A cell in the colour of a verdict, or one as wide as `span` columns."""

    words: Words
    verdict: Verdict | None = None
    span: int = 1


@dataclass(frozen=True, kw_only=True)
class Table:
    """Lines of cells under titles; the first cell names its line. `dense`: in smaller letters."""

    columns: tuple[Column, ...]
    lines: tuple[tuple[TableCell, ...], ...]
    dense: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One plot of `plots.draw`, left out where it was not drawn. `title` is what it shows in a few words."""

    name: str
    title: str
    caption: str
    kind: ClassVar[str] = "plot"


@dataclass(frozen=True, kw_only=True)
class PlotGrid:
    """Columns of plots, side by side."""

    columns: tuple[tuple[Plot, ...], ...]
    kind: ClassVar[str] = "grid"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names with their values."""

    facts: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True, kw_only=True)
class Folded:
    """Blocks that a reader opens: only their title is seen first."""

    title: str
    blocks: tuple[Text | Bullets | Table, ...]
    kind: ClassVar[str] = "folded"


@dataclass(frozen=True, kw_only=True)
class Heading:
    """The title of a part of a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True, kw_only=True)
class EffectLine:
    """The change of a feature under one method: drawn on a log2 axis, and said in `text` and `note`.
    `sure`: it passed every test."""

    label: str
    mean: float
    lo: float | None
    hi: float | None
    verdict: FeatureVerdict
    sure: bool
    text: str
    note: str


@dataclass(frozen=True, kw_only=True)
class PictureLine:
    """Images side by side under a title, and what they say."""

    title: str
    images: tuple[Image, ...]
    note: str = ""
    says: str = ""


@dataclass(frozen=True, kw_only=True)
class FeatureCard:
    """One feature: its effects, drawn from -`reach` to `reach`, and its images."""

    title: str
    note: str
    effects: tuple[EffectLine, ...]
    pictures: tuple[PictureLine, ...]
    reach: float


@dataclass(frozen=True, kw_only=True)
class FeatureCards:
    """Features under each other."""

    cards: tuple[FeatureCard, ...]
    kind: ClassVar[str] = "features"


@dataclass(frozen=True, kw_only=True)
class PictureCell:
    """Rows of images over a text."""

    rows: tuple[tuple[Image, ...], ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class PictureTable:
    """Named lines of cells with images, under titles."""

    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[PictureCell | None, ...]], ...]
    kind: ClassVar[str] = "pictures"


Block: TypeAlias = (
    Text | Bullets | Cards | Table | Plot | PlotGrid | Facts | Folded | Heading | FeatureCards | PictureTable
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report with a title. `frame`: the report's own head, a plain section, a box that warns, or none
    around a single folded block."""

    title: str
    blocks: tuple[Block, ...]
    frame: Literal["head", "plain", "warning", "none"] = "plain"


def table(head: tuple[str | Column, ...], lines: Iterable[Sequence[Words | TableCell]], dense: bool = False) -> Table:
    """A table of words, with plain columns and cells where nothing else is said."""
    return Table(
        columns=tuple(c if isinstance(c, Column) else Column(title=c) for c in head),
        lines=tuple(tuple(c if isinstance(c, TableCell) else TableCell(words=c) for c in line) for line in lines),
        dense=dense,
    )


def folded_table(title: str, text: str, head: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> Section | None:
    """A secondary section: a short text and a table, folded on the page. None without lines."""
    if not lines:
        return None
    blocks = (Text(words=text, style="note"), table(head, lines, dense=True))
    return Section(title=title, blocks=(Folded(title=title, blocks=blocks),), frame="none")
