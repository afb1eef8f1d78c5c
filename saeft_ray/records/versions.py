"""Which code ran: versions of the packages that decide a result, and what of them has changed."""

import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from saeft_ray.config.registry import plugin_versions

PACKAGES = ("saeft_ray", "torch", "open_clip_torch", "ray", "optuna", "numpy", "scipy")


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES if _installed(name)} | plugin_versions()


def commit(package: Path = Path(__file__).parents[1]) -> str | None:
    """The commit of the code in the folder `package`, where that is part of a checkout: `86fb15b`, or
    `86fb15b-dirty-` and a hash of what differs from it, new files included. None elsewhere."""
    try:
        _git(package, "ls-files", "--error-unmatch", "__init__.py")  # not an environment inside someone's checkout
        name = _git(package, "rev-parse", "--short", "HEAD").decode().strip()
        dirt = hashlib.sha256(_git(package, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv", "--", "."))
        new = _git(package, "ls-files", "--others", "--exclude-standard", "-z").split(b"\0")[:-1]
        for file in sorted(new):
            dirt.update(file + b"\0" + (package / file.decode(errors="surrogateescape")).read_bytes())
    except (OSError, subprocess.SubprocessError):
        return None
    return name if dirt.digest() == hashlib.sha256().digest() else f"{name}-dirty-{dirt.hexdigest()[:8]}"


def changes(known: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, old and new version of the code that has changed."""
    for name in dict.fromkeys([*PACKAGES, *known["versions"]]):
        old, new = known["versions"].get(name), now["versions"].get(name)
        if old != new:
            yield name, old or "absent", new or "absent"
    if known["commit"] and now["commit"] and known["commit"] != now["commit"]:
        yield "the commit of this package", known["commit"], now["commit"]


def _git(folder: Path, *words: str) -> bytes:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, timeout=10, check=True)  # noqa: S603
    return done.stdout


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
