"""The two parts of the error that is left: of the seeds and of the images."""

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import pp
from saeft_ray.report.render.blocks import Section, folded_table

ORDER = 90


def section(report: Report) -> Section | None:
    """One line per method with an interval over new images."""
    lines: list[tuple[str, ...]] = []
    for c in report.primary:
        if c.new_images is None or c.paired is None:
            continue
        enough = c.new_images.enough_seeds
        lines.append(
            (
                c.method,
                str(c.paired.n),
                pp(c.new_images.se_seeds),
                pp(c.new_images.se_images),
                "no limit: images add none" if enough is None else str(enough),
            )
        )
    return folded_table(
        title="Which error is left: seeds or images",
        text="The standard error of a difference for new images of the same kind, in pp, split into what more seeds "
        "and what more images would shrink. Beyond the number in the last column the part of the seeds is below half "
        "that of the images: more seeds would not help.",
        head=("method", "pairs", "from seeds", "from images", "more seeds help up to"),
        lines=lines,
    )
