"""The seeds that were saved because methods share theirs."""

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import MISSING, number, percent
from saeft_ray.report.render.blocks import Section, folded_table

ORDER = 91


def section(report: Report) -> Section | None:
    """One line per method whose scores correlate with the baseline's."""
    lines: list[tuple[str, ...]] = []
    for d in report.described:
        if d.rho is not None:
            ends = MISSING if d.rho_interval is None else f"{number(d.rho_interval[0])} to {number(d.rho_interval[1])}"
            lines.append((d.method, number(d.rho), ends, "none" if d.rho <= 0 else f"about {percent(d.rho, 0)} %"))
    return folded_table(
        title="What sharing seeds saved",
        text="ρ is the correlation with the baseline over shared seeds. Where an unpaired comparison needs n seeds a "
        "method, pairing saves about n·ρ of them, a few less where n is small. A wide interval of ρ is a vague saving.",
        head=("method", "ρ", "95 % CI", "seeds saved"),
        lines=lines,
    )
