"""Which code ran: versions of the packages that decide a result, and what of them has changed."""

from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from saeft_ray.config.registry import plugin_versions

PACKAGES = ("saeft_ray", "torch", "open_clip_torch", "ray", "optuna", "numpy", "scipy")


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES if _installed(name)} | plugin_versions()


def changes(known: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, old and new version of the code that has changed."""
    for name in dict.fromkeys([*PACKAGES, *known["versions"]]):
        old, new = known["versions"].get(name), now["versions"].get(name)
        if old != new:
            yield name, old or "absent", new or "absent"
    if known["commit"] and now["commit"] and known["commit"] != now["commit"]:
        yield "the commit of this package", known["commit"], now["commit"]


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
