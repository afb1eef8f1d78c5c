"""Experiment sweeps that test whether a fine-tuning method keeps CLIP robust.

    sweep = saeft_ray.load("sweeps/quickstart.yaml")   # or a dict of its sections
    print(sweep.plan())
    sweep.run(local=True)
    sweep.results().to_pandas()

docs/python.md shows the rest. `import saeft_ray` loads neither torch nor Ray: each name is loaded when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saeft_ray.api import PlanSummary, Sweep, load, open_sweep
    from saeft_ray.errors import Damaged, SaeftError, Unavailable, Unfinished, UserError
    from saeft_ray.features.found import WrittenFeatures
    from saeft_ray.orchestration.replay import Comparison
    from saeft_ray.report import WrittenReport

__version__: str
__all__ = [
    "Comparison",
    "Damaged",
    "PlanSummary",
    "SaeftError",
    "Sweep",
    "Unavailable",
    "Unfinished",
    "UserError",
    "WrittenFeatures",
    "WrittenReport",
    "__version__",
    "load",
    "open_sweep",
]
_PLACES = {
    "errors": ("Damaged", "SaeftError", "Unavailable", "Unfinished", "UserError"),
    "orchestration.replay": ("Comparison",),
    "features.found": ("WrittenFeatures",),
    "report": ("WrittenReport",),
    "api": ("PlanSummary", "Sweep", "load", "open_sweep"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"saeft_ray.{module}"), name)
    raise AttributeError(f"module 'saeft_ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("saeft_ray")
    except metadata.PackageNotFoundError:  # a copy that was never installed
        return "unknown"
