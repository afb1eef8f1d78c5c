"""A name that nobody knows, in words: the nearest that is known, and all that are."""

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`what` says what kind of thing `name` should have been."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"unknown {what} {name!r}" + (f", did you mean {close[0]!r}?" if close else "") + f"; {allowed(known)}"


def allowed(names: Iterable[str]) -> str:
    return "allowed: " + (", ".join(names) or "none")
