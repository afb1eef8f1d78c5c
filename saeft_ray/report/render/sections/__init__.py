"""The sections of a report, one file each: what this folder holds is in the page and in the Markdown.

A file has `ORDER`, a number by which sections follow each other, and `section(report)`, which gives a `Section`, or
None where the report has nothing for it.
"""

import importlib
import pkgutil

from saeft_ray.report.content import Report
from saeft_ray.report.render.blocks import Section


def sections(report: Report) -> list[Section]:
    """Every section that `report` has something for, in order."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    modules.sort(key=lambda module: (module.ORDER, module.__name__))
    made = (module.section(report) for module in modules)
    return [section for section in made if section is not None]
