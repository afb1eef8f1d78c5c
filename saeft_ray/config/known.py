"""A name that nobody knows, in words: the nearest that is known, and all that are."""

import difflib
from collections.abc import Iterable

from saeft_ray.spelling import difference, other_spelling


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`what` says what kind of thing `name` should have been."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    if (near := other_spelling(name, known)) is not None:
        hint = f", which differs from {near!r} only in {difference(name, near)}"
    return f"unknown {what} {name!r}{hint}; {allowed(known)}"


def allowed(names: Iterable[str]) -> str:
    return "allowed: " + (", ".join(names) or "none")
