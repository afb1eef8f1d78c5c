"""Finds the implementations of an extension point by looking in its folder: one file is one family."""

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

from saeft_ray.errors import UserError

T = TypeVar("T")


def discover(package: ModuleType, base: type[T]) -> dict[str, type[T]]:
    """Every subclass of `base` in the modules of `package` that has a `type`, by the default of that field.

    Raises UserError if two classes share a name.
    """
    found: dict[str, type[T]] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in vars(module).values():
            if not (inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.__name__):
                continue
            name = _name(value)
            if name is None:
                continue
            if name in found:
                raise UserError(f"two classes are named {name!r}: {found[name]!r} and {value!r}")
            found[name] = value
    return found


def _name(cls: type) -> str | None:
    """The default of the class's `type` field; None for a base class that has none."""
    field = getattr(cls, "model_fields", {}).get("type")
    return field.default if field is not None and isinstance(field.default, str) else None
