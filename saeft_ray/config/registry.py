"""Finds the implementations of an extension point: in its folder, and through entry points of other packages."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, entry_points, version
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

from saeft_ray.errors import UserError

T = TypeVar("T")
OURS = "saeft_ray"


class Origin(NamedTuple):
    """Who brought a class."""

    distribution: str
    version: str
    entry_point: str | None = None  # "name = module:object"; None for a file of this package

    def __str__(self) -> str:
        point = f", entry point {self.entry_point}" if self.entry_point else ""
        return f"{self.distribution} {self.version}{point}"


class Registry(dict[str, type[T]], Generic[T]):
    """The classes by the default of their `type`, with where each comes from and which could not be had.

    What is wrong with one package stays with the sweeps that name its types: `faults` are sentences for a warning, and
    `missing` says why a name is not here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.origins: dict[str, Origin] = {}
        self.faults: list[str] = []
        self._clashes: dict[str, str] = {}

    def add(self, name: str, cls: type[T], origin: Origin) -> None:
        """Takes in a class; of two with one name neither can be used."""
        if self.get(name) is cls:
            return
        if name in self.origins:
            words = (
                f"type {name!r} is brought by both {self.origins[name]} and {origin}; uninstall one of them, "
                "or give one class another type"
            )
            self.pop(name, None)
            self._clashes[name] = words
            self.faults.append(words)
            return
        self[name], self.origins[name] = cls, origin

    def missing(self, name: str) -> str | None:
        """Why `name` is not here, as far as installed packages can explain it."""
        return self._clashes.get(name) or ("; ".join(self.faults) or None if name not in self else None)


def discover(package: ModuleType, base: type[T], group: str) -> Registry[T]:
    """Every subclass of `base` that has a `type`: in the modules of `package`, and in the entry points of `group`, each
    of which names a class or a module.

    Raises UserError if two classes of `package` share a name. Faults of other packages are kept in the result.
    """
    found: Registry[T] = Registry()
    ours = Origin(OURS, version(OURS))
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for name, cls in _classes(module, base):
            found.add(name, cls, ours)
    if found.faults:
        raise UserError("; ".join(found.faults))
    for point in sorted(entry_points(group=group), key=lambda point: (_of(point).distribution, point.name)):
        try:
            classes = list(_classes(point.load(), base))
        except Exception as error:  # whatever another package raises at its import
            found.faults.append(
                f"{_of(point)} of {group} cannot be imported ({type(error).__name__}: {error}); "
                f"fix, reinstall or uninstall {_of(point).distribution}"
            )
            continue
        if not classes:
            found.faults.append(
                f"{_of(point)} of {group} names no {base.__name__} with a type; "
                f'it must be a class with `type: Literal["name"] = "name"`, or a module that defines one'
            )
        for name, cls in classes:
            found.add(name, cls, _of(point))
    return found


def plugin_versions() -> dict[str, str]:
    """Version by name of every other distribution that brings methods or data sets."""
    points = [*entry_points(group="saeft_ray.methods"), *entry_points(group="saeft_ray.datasets")]
    return {origin.distribution: origin.version for origin in sorted(map(_of, points))}


def _classes(found: Any, base: type[T]) -> Iterator[tuple[str, type[T]]]:
    """The classes of a module that are its own, or `found` itself, with their names."""
    if inspect.isclass(found):
        candidates = [found]
    else:
        inside = found.__name__
        candidates = [
            value
            for value in vars(found).values()
            if inspect.isclass(value) and f"{value.__module__}.".startswith(f"{inside}.")
        ]
    for value in candidates:
        if issubclass(value, base) and (name := _name(value)) is not None:
            yield name, value


def _name(cls: type) -> str | None:
    """The default of the class's `type` field; None for a base class that has none."""
    field = getattr(cls, "model_fields", {}).get("type")
    return field.default if field is not None and isinstance(field.default, str) else None


def _of(point: EntryPoint) -> Origin:
    held: Distribution | None = point.dist
    name, number = (held.name, held.version) if held else ("an unnamed distribution", "")
    return Origin(name, number, f"{point.name} = {point.value}")
