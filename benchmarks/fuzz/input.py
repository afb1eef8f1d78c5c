"""What a generator makes: one thing to try, and what is known of the right answer."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Wrong(AssertionError):  # noqa: N818 - as in errors.py
    """An answer that contradicts what the input was made from."""


def _anything(_: Any) -> None:
    pass


class Input(NamedTuple):
    """`attempt` gives the answer, `check` raises Wrong for one that is not right. `about` says what was done to the
    input; `must_pass`: it is sound, and no refusal is right."""

    about: str
    attempt: Callable[[], Any]
    check: Callable[[Any], None] = _anything
    must_pass: bool = False


def wrong_if(condition: bool, words: str) -> None:
    if condition:
        raise Wrong(words)
