"""Names that a reader takes for one although they are two: how they differ, and how to say it."""

import re
import unicodedata
from collections.abc import Iterable

_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d"), "-")


def sounds(name: str) -> str:
    """What `name` has in common with its other spellings: it is without case, blanks and unseen characters, and has one
    form of each letter and of each dash."""
    text = _one_dash(unicodedata.normalize("NFKC", name).casefold())
    return _seen(unicodedata.normalize("NFKC", text))


def difference(one: str, other: str) -> str:
    """In what two spellings of one name differ, as words that follow "differs in"."""
    ways = (
        ("unicode form (a letter with its accent as one character or as two)", _composed),
        ("case", str.casefold),
        ("blanks or characters that are not seen", _seen),
        ("the form of a dash", _one_dash),
    )
    same = (words for words, form in ways if form(one) == form(other))
    return next(same, "case, blanks, dashes or unicode form")


def other_spelling(name: str, known: Iterable[str]) -> str | None:
    """The name in `known` that is another spelling of `name`."""
    return next((other for other in known if other != name and sounds(other) == sounds(name)), None)


def minus(text: str) -> str:
    """`text` with plain hyphens in the place of typographic dashes."""
    return text.translate(_DASHES)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _one_dash(text: str) -> str:
    return minus(text).replace("_", "-")


def _seen(text: str) -> str:
    return re.sub(r"\s", "", "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc")))
