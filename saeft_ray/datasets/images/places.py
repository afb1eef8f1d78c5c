"""Whether two places of a data set are one, or one lies in the other, however they are spelled."""

import os
import posixpath
from collections.abc import Iterator, Mapping

from saeft_ray.storage.location import Location


def overlaps(places: Mapping[str, str]) -> Iterator[str]:
    """Sentences about `places` that are, or lie in, another of them; the keys are where the settings name them."""
    real = {key: _real(place) for key, place in places.items()}
    for number, (key, place) in enumerate(real.items()):
        for other, before in list(real.items())[:number]:
            if place == before:
                yield f"{key}: {places[key]} is also {other}; every split needs images of its own"
                break
            inner, outer = (key, other) if place.startswith(f"{before.rstrip('/')}/") else (other, key)
            if real[inner].startswith(f"{real[outer].rstrip('/')}/"):
                yield f"{inner}: {places[inner]} lies inside {outer}; every split needs images of its own"


def _real(place: str) -> str:
    location = Location(place)
    if location.local:
        return os.path.realpath(location.url)
    scheme, _, rest = location.url.partition("://")
    return f"{scheme}://{posixpath.normpath(rest)}"
