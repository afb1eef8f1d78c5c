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


def apart(source: str, destination: str) -> str | None:
    """Why what is made of `source` cannot be written to `destination`: they are one place, or one lies in the other."""
    one, other = (f"{_real(place).rstrip('/')}/" for place in (source, destination))
    if one == other:
        return f"{destination}: is where the images lie; give a folder of its own"
    if one.startswith(other) or other.startswith(one):
        return f"{destination}: and {source} lie one inside the other; give a folder elsewhere"
    return None


def _real(place: str) -> str:
    location = Location(place)
    if location.local:
        return os.path.realpath(location.url)
    scheme, _, rest = location.url.partition("://")
    return f"{scheme}://{posixpath.normpath(rest)}"
