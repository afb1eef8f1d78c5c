"""How one function is done for many things: here, one after the other; a cluster does it in its own way."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Map(Protocol):
    """Yields `act(thing)` for every thing, in the order of `things`. Both must be picklable."""

    def __call__(self, act: Callable[[T], R], things: Sequence[T], /) -> Iterator[R]: ...


def serially(act: Callable[[T], R], things: Sequence[T], /) -> Iterator[R]:
    """One thing after the other, in this process."""
    yield from map(act, things)
