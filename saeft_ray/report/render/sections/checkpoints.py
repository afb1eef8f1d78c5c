"""Two checkpoints where only one seed exists."""

from saeft_ray.report.content import Report
from saeft_ray.report.render.blocks import Section, folded_table
from saeft_ray.report.render.phrases import bare_p

ORDER = 95


def section(report: Report) -> Section | None:
    """One line per pair of checkpoints and test set."""
    return folded_table(
        title="Two checkpoints, not two methods",
        text="One seed says nothing of a method. Whether these two checkpoints themselves differ: the examples that "
        "one of them alone has right, and the exact p of McNemar's test. Another seed may turn any of these around.",
        head=("checkpoint", "other checkpoint", "test set", "first alone right", "other alone right", "p"),
        lines=tuple(
            (
                f"{c.method}, seed {c.seed}",
                c.against,
                c.dataset,
                str(c.only_method),
                str(c.only_against),
                bare_p(c.p),
            )
            for c in report.checkpoints
        ),
    )
