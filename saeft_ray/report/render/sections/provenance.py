"""Where the numbers came from."""

from saeft_ray.report.content import Report
from saeft_ray.report.render.blocks import Facts, Section

ORDER = 130


def section(report: Report) -> Section:
    """Every fact of the provenance, the seeds and the error level."""
    facts = (
        *((fact.name, fact.value) for fact in report.provenance),
        ("confirm seeds", ", ".join(map(str, report.confirm_seeds)) or "none"),
        ("error level", f"{report.alpha} per family"),
    )
    return Section(title="Provenance", blocks=(Facts(facts=facts),))
