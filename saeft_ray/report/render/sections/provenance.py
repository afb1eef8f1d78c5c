"""Where the numbers came from."""

from saeft_ray.features import names
from saeft_ray.report.content import Report
from saeft_ray.report.render.blocks import Facts, Section

ORDER = 130
_DRAWS = (
    f"the movement dealt to other images, by each trial's seed; a random dictionary; {names.DRAWS:,} directions and "
    f"{names.SETS} sets of images without meaning for the names; halves of the images for shortcuts. All follow from "
    "seeds: the same command gives the same numbers"
)


def section(report: Report) -> Section:
    """Every fact of the provenance, the seeds and the error level."""
    facts = (
        *((fact.name, fact.value) for fact in report.provenance),
        *((("random draws in what changed", _DRAWS),) if report.what_changed and report.what_changed.readings else ()),
        ("confirm seeds", ", ".join(map(str, report.confirm_seeds)) or "none"),
        ("error level", f"{report.alpha} per family"),
    )
    return Section(title="Provenance", blocks=(Facts(facts=facts),))
