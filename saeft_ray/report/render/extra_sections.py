"""The secondary sections of a report, folded on the page: each a short text and a table of cells."""

from dataclasses import dataclass

from saeft_ray.report.content import Report
from saeft_ray.report.numbers import MISSING, count, number, p_value, percent, pp


@dataclass(frozen=True, kw_only=True)
class Aside:
    """`head` and `lines` are a table whose first column names its lines."""

    title: str
    text: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def asides(report: Report) -> list[Aside]:
    """Those sections that `report` has numbers for."""
    made = (_error(report), _pairing(report), _beside(report), _front(report), _discoveries(report), _two(report))
    return [aside for aside in made if aside.lines]


def _error(report: Report) -> Aside:
    lines = []
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
    return Aside(
        title="Which error is left: seeds or images",
        text="The standard error of a difference for new images of the same kind, in pp, split into what more seeds "
        "and what more images would shrink. Beyond the number in the last column the part of the seeds is below half "
        "that of the images: more seeds would not help.",
        head=("method", "pairs", "from seeds", "from images", "more seeds help up to"),
        lines=tuple(lines),
    )


def _pairing(report: Report) -> Aside:
    lines = []
    for d in report.described:
        if d.rho is not None:
            ends = MISSING if d.rho_interval is None else f"{number(d.rho_interval[0])} to {number(d.rho_interval[1])}"
            lines.append((d.method, number(d.rho), ends, "none" if d.rho <= 0 else f"about {percent(d.rho, 0)} %"))
    return Aside(
        title="What sharing seeds saved",
        text="ρ is the correlation with the baseline over shared seeds. Where an unpaired comparison needs n seeds a "
        "method, pairing saves about n·ρ of them, a few less where n is small. A wide interval of ρ is a vague saving.",
        head=("method", "ρ", "95 % CI", "seeds saved"),
        lines=tuple(lines),
    )


def _beside(report: Report) -> Aside:
    lines = []
    for d in report.described:
        ends = MISSING if d.lo is None or d.hi is None else f"{percent(d.lo, 0)} to {percent(d.hi, 0)} %"
        lines.append((d.method, str(d.n), pp(d.iqm, signed=True), f"{percent(d.improvement, 0)} %", ends))
    return Aside(
        title="Beside the mean",
        text="Descriptions; none of them decides anything. IQM: mean of the paired differences over seeds and test "
        "sets without the lowest and highest quarter, in pp; it does not see a gain on one test set alone. Share that "
        "rises: of the seeds, a tie counting half, with its exact interval; fewer than ten seeds say little.",
        head=("method", "pairs", "IQM, pp", "share that rises", "95 % CI"),
        lines=tuple(lines),
    )


def _front(report: Report) -> Aside:
    if report.front is None:
        return Aside(title="", text="", head=(), lines=())
    x, y = report.front.reference
    text = (
        "On the front: no other method is as good in both and better in one, by their means over "
        f"{count(report.front.seeds, 'seed')} that all have. Together these dominate an area of "
        f"{number(10_000 * report.front.area, 0)} %² above ({percent(x)} % ID, {percent(y)} % OOD); areas reward "
        "the luckiest of equal methods. How often: when whole seeds are drawn anew, from ten seeds on."
    )
    order = sorted(report.front.methods, key=lambda m: (not m.on_front, -m.id))
    return Aside(
        title="The trade-off of ID and OOD accuracy",
        text=text,
        head=("method", "ID, %", "mean OOD, %", "on the front", "how often"),
        lines=tuple(
            (
                m.method,
                percent(m.id),
                percent(m.ood),
                "yes" if m.on_front else "no",
                MISSING if m.share is None else f"{percent(m.share, 0)} %",
            )
            for m in order
        ),
    )


def _discoveries(report: Report) -> Aside:
    level = f"{100 * report.alpha:g} %"
    lines = tuple(
        (c.method, c.datasets[0], pp(c.paired.mean, signed=True), _p(c.paired.p), _p(c.discovery_p))
        for c in report.shifts
        if c.paired is not None and c.discovery_p is not None and c.discovery_p < report.alpha
        if c.verdict == "undecided"
    )
    decided = sum(c.verdict in ("better", "worse") for c in report.shifts)
    return Aside(
        title=f"For exploration only: further cells at a false discovery rate of {level}",
        text="No verdicts, but places to look at next: single test sets on which nothing is decided, yet which join "
        f"the {count(decided, 'decided cell')} if {level} of all of these may be false on average (Benjamini and "
        "Hochberg).",
        head=("method", "test set", "difference, pp", "p", "adjusted"),
        lines=lines,
    )


def _two(report: Report) -> Aside:
    return Aside(
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
                _p(c.p),
            )
            for c in report.checkpoints
        ),
    )


def effective_note(report: Report) -> str:
    """What the effective robustness of this report is measured from."""
    known = "; ".join(
        f"{name} {number(line.slope, 3)} and {number(line.intercept, 3, signed=True)}"
        for name, line in report.lines.items()
    )
    return (
        "Effective robustness is OOD accuracy beyond what standard models of the same ID accuracy reach (Taori et al. "
        f"2020), by the lines that the sweep declares (slope and intercept in logits): {known}. The difference between "
        "two methods hardly depends on the line's own error; the level of one method does."
    )


def _p(p: float | None) -> str:
    return p_value(p).removeprefix("= ")
