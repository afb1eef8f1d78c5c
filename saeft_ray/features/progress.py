"""What a person reads while features are computed: one line per finished step."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from saeft_ray.features.each import Map
from saeft_ray.features.recording import Find, Prepare, Record
from saeft_ray.features.replication import Replicate

T = TypeVar("T")
R = TypeVar("R")


def telling(each: Map, say: Callable[[str], None]) -> Map:
    """`each`, which says every step once it has ended, and how many there are of its kind."""

    def told(act: Callable[[T], R], things: Sequence[T], /) -> Iterator[R]:
        for number, (thing, result) in enumerate(zip(things, each(act, things), strict=True), 1):
            say(f"{step(act, thing)} ({number} of {len(things)})")
            yield result

    return told


def step(act: object, thing: Any) -> str:
    """What `act` does for `thing`, in words."""
    match act, thing:
        case Record(), (spec, kind):
            return f"record of {spec.method}, seed {spec.number}, read through the dictionary {kind}"
        case Prepare(), _:
            return "dictionaries and frozen embeddings"
        case Find(), number:
            return f"features looked for in the SAE of seed {number}"
        case Replicate(), number:
            return f"changes looked for in the SAE of seed {number}"
    return "similarity of models"
