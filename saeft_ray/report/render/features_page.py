"""The page of all features: one file that needs nothing else, and its numbers as JSON, CSV and Markdown."""

import json
from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

from saeft_ray.features.content import Feature, FeatureChange, WhatChanged
from saeft_ray.features.files import JSON, PAGE, as_csv, as_json
from saeft_ray.features.judged import gap, sure
from saeft_ray.report.render import blocks, heat_map, markdown, phrases
from saeft_ray.report.render.blocks import FeatureCard, FeatureCards, Heading, Section
from saeft_ray.report.render.feature_cards import card, label, ordered, reach, said
from saeft_ray.report.render.feature_html import drawing
from saeft_ray.report.render.html import environment, script_hash
from saeft_ray.report.render.sections import what_changed
from saeft_ray.report.render.thumbnails import Album, Thumbnails

LARGEST = 5_000_000
ROWS = 2000
ELSEWHERE = "Their numbers are in features.csv, a line per feature and method; features.json has all about them."
NO_Q = 2.0  # sorts behind every q
_WORDS = 0.4  # of the page may be the features' words; pictures get what is left
_SPECIMENS = 0.15  # of the page may be pictures that do not belong to one feature of the list


def files(what: WhatChanged, thumbnails: Thumbnails | None) -> dict[str, str]:
    """features.html, features.json, features.csv and features.md by name."""
    return {
        PAGE: render(what, thumbnails),
        JSON: as_json(what),
        "features.csv": as_csv(what),
        "features.md": as_markdown(what),
    }


def render(what: WhatChanged, thumbnails: Thumbnails | None = None, largest: int = LARGEST, rows: int = ROWS) -> str:
    """The page, of at most `largest` bytes for any number of features: `rows` of them, most changed first.

    Where images do not fit, the least changed features lose them; where words do not fit, the rows. The page says so.
    The part above the features (sentences, tables, similarities) is not cut.
    """
    script = (Path(__file__).parent / "features.js").read_text(encoding="utf-8")
    template = environment().get_template("features.html")
    head = {
        "title": what_changed.title(what),
        "top": (*what_changed.head(what), *what_changed.how_much(what)),
        "legend": what_changed.legend(what),
        "elsewhere": ELSEWHERE,
        "bottom": what_changed.rest(what),
        "methods": list(dict.fromkeys(label(c) for f in what.features for c in f.changes)),
        "said": said(what),
        "spans": blocks.spans,
        "marks": phrases.MARKS,
        "drawing": drawing,
        # Our own drawings, whose text matplotlib has escaped, and the one script that the page's policy lets run.
        "plots": {name: Markup(svg) for name, svg in heat_map.draw(what, thumbnails).items()},  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "script_hash": script_hash(script),
    }
    features, around = ordered(what), int(_SPECIMENS * largest)
    bare = len(template.render(**head, album=Album(thumbnails, around), listed=[], left_out=0, without=0).encode())
    room = max(largest - bare - 2000, 0)
    end = reach(what)
    kept = _kept(features[:rows], end, what, int(_WORDS * room))
    album = Album(thumbnails, room - sum(size for _, size in kept))
    listed, without = [], 0
    for feature, _ in kept:
        shown = _row(feature, end, what, album)
        without += album.full
        listed.append(shown)
    return template.render(
        **head, album=Album(thumbnails, around), listed=listed, left_out=len(features) - len(kept), without=without
    )


def _kept(features: list[Feature], end: float, what: WhatChanged, room: int) -> list[tuple[Feature, int]]:
    """The first features whose words fit into `room` bytes, each with its size."""
    nothing, kept = Album(None, 0), []
    for feature in features:
        # Each strip has 200 bytes of tags around its picture.
        size = len(_row(feature, end, what, nothing).encode()) + 200 * (2 + 2 * len(feature.changes))
        room -= size
        if room < 0:
            break
        kept.append((feature, size))
    return kept


def _row(feature: Feature, end: float, what: WhatChanged, album: Album) -> Markup:
    shown = card(feature, what, end)
    row = environment().get_template("feature_row.html")
    return Markup(row.render(card=shown, data=_data(feature, what.alpha), album=album, drawing=drawing))  # noqa: S704


def _data(feature: Feature, alpha: float) -> dict[str, str]:
    """What the page sorts, filters and searches by; its changes are JSON, without names to keep the page small."""
    words = [word for word, _ in feature.words] + [c.shared.word for c in feature.changes if c.shared]
    changes = [
        (label(c), c.effect.verdict, sure(c, alpha), round(gap(c), 4), float(f"{_q(c):.3g}")) for c in feature.changes
    ]
    return {
        "index": str(feature.index),
        "live": f"{feature.live:.6g}",
        "name": feature.name.word if feature.name else "",
        "words": " ".join(words),
        "changes": json.dumps(changes, separators=(",", ":")),
    }


def _q(change: FeatureChange) -> float:
    return NO_Q if change.effect.q is None else change.effect.q


def as_markdown(what: WhatChanged) -> str:
    """The page as Markdown; every feature that surely changed or has a name, up to `ROWS`."""
    return markdown.write([_section(what)], {})


def _section(what: WhatChanged) -> Section:
    told = [f for f in ordered(what) if f.name or any(sure(c, what.alpha) for c in f.changes)][:ROWS]
    rest = len(what.features) - len(told)
    more = (
        blocks.Text(words=f"{rest} further features, the least changed, are not listed. {ELSEWHERE}") if rest else None
    )
    cards = FeatureCards(cards=tuple(_cards(what, told)))
    parts = (*what_changed.head(what), *what_changed.how_much(what), Heading(text="Features"), cards, more,
             *what_changed.rest(what))  # fmt: skip
    return Section(title=what_changed.title(what), blocks=tuple(p for p in parts if p is not None), frame="head")


def _cards(what: WhatChanged, features: list[Feature]) -> Iterator[FeatureCard]:
    end = reach(what)
    return (card(feature, what, end) for feature in features)
