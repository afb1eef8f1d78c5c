"""What fine-tuning added and removed: a summary, and the way to the page of all features."""

from saeft_ray.features.content import Feature, Movement, Reading, Specimen, WhatChanged
from saeft_ray.features.files import PAGE
from saeft_ray.features.judged import against_frozen, stable
from saeft_ray.features.sentences import BLIND
from saeft_ray.report.content import Report
from saeft_ray.report.numbers import MISSING, count, in_list, number
from saeft_ray.report.render import shortcut_pictures
from saeft_ray.report.render.blocks import (
    Block,
    Bullets,
    Column,
    FeatureCards,
    Folded,
    Heading,
    Link,
    PictureCell,
    PictureTable,
    Plot,
    Section,
    Table,
    Text,
    table,
)  # fmt: skip
from saeft_ray.report.render.feature_cards import KINDS, card, dash, ordered, reach, specimens

ORDER = 85
_CARDS, _MOST = 6, 3  # features that are shown; so many of them whether named or not
_BALANCE = Plot(
    name="balance",
    title="What the methods took and gave",
    caption="Left of zero: features that fall silent on an image (removed) or are weaker there. Right: features that "
    "are stronger, or newly active (added). Mean over seeds.",
)
_BLOCKS = "The same after each block, mean over test sets: of its class token, and of the mean of its tokens."
_PICTURED = Plot(
    name=shortcut_pictures.NAME,
    title="What class features newly fire on",
    caption="Left: the images on which a feature that is named after a class fires most in the frozen model. Right: "
    "images on which it fires only after fine-tuning, and the word that they are more like than others of their class "
    "and set.",
)


def section(report: Report) -> Section | None:
    """The summary, where the sweep has a record of features."""
    if report.what_changed is None:
        return None
    what = report.what_changed
    link = Text(words=("Every feature, with search: ", Link(text="the page of all features", href=PAGE), "."))
    return Section(title="What changed", blocks=(*head(what), link, *how_much(what), *_changed(what), *rest(what)))


def title(what: WhatChanged) -> str:
    """Of the page: a part says of what."""
    return f"{what.sweep}: what changed" + (f" ({what.scope})" if what.scope else "")


def head(what: WhatChanged) -> tuple[Block, ...]:
    """What was found, and the words that a reader needs."""
    return Bullets(lines=what.sentences), Text(words=_terms(what), style="read")


def _terms(what: WhatChanged) -> str:
    sure_ = f"{100 * what.alpha:g} %"
    return (
        "A dictionary is a list of directions that was learned by a sparse autoencoder (SAE) from the embeddings of "
        "the frozen model. A feature is one of these directions: it is active on some images and silent on the others. "
        "Its mass is the sum of its activity over all images. An effect is mass after divided by mass before: ×2 is "
        "twice as much. The control gives each image the movement of another image of the same set. "
        f"q is a corrected p-value: of all changes with q ≤ {what.alpha:g}, at most {sure_} are false on average. The "
        f"first q of a line is of a change of mass of more than {number(100 * what.least, 0)} %, the one after “beyond "
        "it” of the difference from the control; a feature surely changed if both are that small. A feature can also "
        "change where it fires while its mass stays equal, as those of shortcuts do: “newly fires on” tells."
    )


def how_much(what: WhatChanged) -> tuple[Block, ...]:
    """One table per dictionary; the first is the one that the features are of."""
    readings = [r for r in what.readings if r.movements]
    if not readings:
        return ()
    least = number(100 * what.least, 0)
    text = (
        f"Grew, shrank: features whose mass changed by more than {least} % (q ≤ {what.alpha:g}), of those tested. "
        "Surely changed: of these, how many changed more than the same movement dealt to other images makes them. "
        "Seen: the share of the change of embeddings that the dictionary can express; below 0, its codes add more "
        f"error than they explain, and below {100 * BLIND:.0f} % (†) it cannot tell what changed. "
        "Drift: the share of the change that is the same for "
        "all images. FVU: the fraction of variance that the dictionary leaves unexplained, frozen → tuned. Added to "
        "removed: in % of the mass before, what newly active features add, active features gain or lose, and features "
        "that fall silent take away. Values are means over seeds."
    )
    tables = [_movements(r) for r in readings]
    others = [part for r, t in zip(readings[1:], tables[1:], strict=True) for part in (Text(words=_reading(r)), t)]
    return (Heading(text="How much"), Text(words=_reading(readings[0])), _BALANCE, tables[0],
            Text(words=text, style="note"), *_folded(others))  # fmt: skip


def _folded(others: list[Text | Table]) -> tuple[Block, ...]:
    return (Folded(title="Read through other dictionaries", blocks=tuple(others)),) if others else ()


def _reading(r: Reading) -> str:
    named = "" if r.named is None else f", {r.named} with a sure name"
    kind = KINDS.get(r.kind, r.kind)
    return f"Read through: {kind}, {count(r.width, 'feature')}, {r.live} active in the frozen model{named}."


def _movements(r: Reading) -> Table:
    columns = ("method", "seeds", "grew", "shrank", "of tested", "surely changed", "seen %", "drift %", "FVU",
               "added %", "strengthened %", "weakened %", "removed %")  # fmt: skip
    return table(columns, [_movement(m, r.tested) for m in r.movements], dense=True)


def _movement(m: Movement, tested: int) -> tuple[str, ...]:
    fvu = " → ".join(MISSING if v is None else number(v) for v in (m.fvu0, m.fvu))
    shares = (dash(v) for v in (m.added, m.strengthened, m.weakened, m.removed))
    return (m.method, str(m.seeds), str(m.grew), str(m.shrank), str(tested), str(m.beyond), _seen(m.seen),
            dash(m.drift, 0), fvu, *shares)  # fmt: skip


def _seen(share: float | None) -> str:
    return dash(share, 0) + (" †" if share is not None and share < BLIND else "")


def legend(what: WhatChanged) -> Text:
    """How the cards draw effects."""
    end = f"{2 ** reach(what):.2g}"
    words = (
        f"A dot is the effect of a method with its {100 * (1 - what.alpha):g} % interval, on a logarithmic axis from "
        f"÷{end} to ×{end}; the line in the middle is no change. A filled dot, orange for grew and blue for shrank, "
        f"surely changed: by more than {number(100 * what.least, 0)} %, and more than the control. A hollow dot did "
        "not pass both tests."
    )
    return Text(words=words, style="note")


def _changed(what: WhatChanged) -> tuple[Block, ...]:
    told = [f for f in ordered(what) if against_frozen(f, what.alpha)]
    told.sort(key=lambda f: -against_frozen(f, what.alpha))
    heading = Heading(text="Which features changed")
    if not told:
        return heading, Text(words="No feature surely changed beyond the control.")
    rest_ = sorted(told[_MOST:], key=lambda f: f.name is None)
    shown, end = [*told[:_MOST], *rest_[: _CARDS - _MOST]], reach(what)
    cards = FeatureCards(cards=tuple(card(f, what, end, brief=True) for f in shown))
    return heading, Text(words=_told(told, len(shown))), legend(what), cards


def _told(told: list[Feature], shown: int) -> str:
    facts = [f"with a sure name: {sum(f.name is not None for f in told)}"]
    rare = ""
    if any(f.found is not None for f in told):
        steady = sum(map(stable, told))
        facts.append(f"found by most other SAE seeds: {steady}")
        if 2 * steady < len(told):
            rare = (
                " A feature that other seeds do not find is one way to describe the change; another dictionary may "
                "describe it differently."
            )
    which = "They are below, the largest change beyond the control first."
    if len(told) > shown:
        which = f"Below are the {_MOST} that changed most and {shown - _MOST} more, those with a name first."
    how_many = f"{count(len(told), 'feature')} surely changed under a method, compared with the frozen model"
    return f"{how_many} ({'; '.join(facts)}).{rare} {which}"


def rest(what: WhatChanged) -> tuple[Block, ...]:
    """Shortcut candidates, figure 2, similarities, and what is missing."""
    return *_shortcuts(what), *_specimens(what), *_similarities(what), *_missing(what)


def _shortcuts(what: WhatChanged) -> tuple[Block, ...]:
    if not what.shortcuts:
        return ()
    text = (
        "A class feature that newly fires on images because of something else than the class may be a shortcut. The "
        "last column has, for a class with the numbers of its features, the word that newly active images of other "
        "classes are more like than others of their class and set, in standard deviations beyond the control. The "
        "value sums this over features, each times its newly active images of other classes, per image on which class "
        "features fired before (the word is chosen on one half of the images and measured on the other). They are "
        "candidates and no proof: without any cue the value is not 0, so compare methods by it. Such a feature fires "
        "elsewhere, and its mass may stay equal; the cards show the strongest."
    )
    lines = [(s.method, number(s.value, 3, True), _interval(s.lo, s.hi), _candidates(s.candidates, what))
             for s in what.shortcuts]  # fmt: skip
    head_ = ("method", "value", f"{100 * (1 - what.alpha):g} % interval", Column(title="class ← word", align="wide"))
    return Heading(text="Shortcut candidates"), Text(words=text), table(head_, lines), _PICTURED, *_behind(what)


def _behind(what: WhatChanged) -> tuple[Block, ...]:
    """The features of the picture, each with the change that makes it a candidate."""
    end = reach(what)
    cards = tuple(card(c.feature, what, end, of=c.change) for c in shortcut_pictures.candidates(what))
    return (FeatureCards(cards=cards),) if cards else ()


def _interval(lo: float | None, hi: float | None) -> str:
    return MISSING if lo is None or hi is None else f"{number(lo, 3, True)} to {number(hi, 3, True)}"


def _candidates(pairs: tuple[tuple[str, str, float], ...], what: WhatChanged) -> str:
    return (
        ", ".join(f"{_numbered(c, what)} ← {word} ({number(value, 3, True)})" for c, word, value in pairs[:5])
        or MISSING
    )


def _numbered(class_: str, what: WhatChanged) -> str:
    """A class with the numbers of the features that are named after it."""
    found = [str(f.index) for f in what.features if f.name and f.name.word == class_]
    return f"{class_} ({', '.join(found)})" if found else class_


def _specimens(what: WhatChanged) -> tuple[Block, ...]:
    words, kinds, at = specimens(what)
    if not words:
        return ()
    text = (
        "For each word, the feature of each kind that the word fits best. Upper row: its strongest images. Lower row: "
        "images spread over all that it fires on. F1 says how well the word tells on which images it fires; 1 is "
        "perfect. The strongest images alone can deceive: compare the lower rows."
    )
    cells = [(w, tuple(_specimen(at[k, w]) if (k, w) in at else None for k in kinds)) for w in words]
    return (Heading(text="Are SAE features more than directions?"), Text(words=text),
            PictureTable(columns=tuple(KINDS.get(k, k) for k in kinds), lines=tuple(cells)))  # fmt: skip


def _specimen(s: Specimen) -> PictureCell:
    return PictureCell(rows=(s.strongest, s.spread), text=f"F1 {number(s.score)} · feature {s.index}")


def _similarities(what: WhatChanged) -> tuple[Block, ...]:
    if not what.similarities:
        return ()
    caption = (
        "Linear CKA (unbiased): how alike the embeddings of all images are to those of the frozen model (or, where a "
        "row says so, of another method with the same seed), whatever their rotation or scale. 1 is alike; smaller is "
        "more changed. Mean over seeds."
    )
    where = Plot(name="similarity", title="CKA per method and test set", caption=caption)
    blocks = Plot(name="similarity_blocks", title="CKA per block", caption=_BLOCKS)
    return Heading(text="How alike are the embeddings?"), where, blocks


def _missing(what: WhatChanged) -> tuple[Block, ...]:
    sets = Text(words=f"Images are from {in_list(what.sets)}.", style="note") if what.sets else None
    lines = Bullets(lines=what.missing) if what.missing else Text(words="Nothing is missing.")
    return tuple(b for b in (Heading(text="What is missing"), lines, sets) if b is not None)
