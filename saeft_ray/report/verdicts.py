"""The verdict of a comparison and its sentences: each is written here and nowhere else."""

from collections.abc import Collection

from saeft_ray.report.as_tuned import in_words
from saeft_ray.report.content import Comparison, Verdict
from saeft_ray.report.numbers import MISSING, count, number, p_value, pp, where
from saeft_ray.stats import MIN_PAIRS, Paired, TunedDifference, Welch

_CORRECTED = {"Holm": "Holm-adjusted p", "max-T": "max-T-adjusted p", "looks": "Holm-adjusted p for any look"}
MANY_SEEDS = 200
"""Beyond this many seeds a forecast is not worth its digits."""
_NO_EVIDENCE = "This is not evidence of equality."

ENGINES = {
    "t": ("repeated CI", "repeated one"),
    "exact": ("repeated CI, from normality,", "repeated one"),
    "anytime": ("confidence sequence", "confidence sequence"),
}
"""The names of each engine's interval: before its numbers, and after "the interval is the"."""

ASKED = {
    "controls": "that the sweep declares",
    "questions": "asked by the report, not declared",
    "controls and questions": "declared or asked by the report",
}
"""Who asked for the pairs of a family."""


def verdict_of(
    paired: Paired | None, p_adjusted: float | None, p_equivalent: float | None, alpha: float, margin: float | None
) -> Verdict:
    """The one verdict. "Equivalent" needs a margin; nothing is claimed below three pairs."""
    if paired is None or paired.n < MIN_PAIRS:
        return "undecided"
    if paired.identical:
        return "identical"
    if p_adjusted is not None and p_adjusted < alpha:
        return "better" if paired.mean > 0 else "worse"
    if margin is not None and p_equivalent is not None and p_equivalent < alpha:
        return "equivalent"
    return "undecided"


def sentence(c: Comparison, alpha: float, finishing_only: bool, constant: bool) -> str:
    """The verdict of `c` as a sentence or a few.

    `finishing_only`: some runs failed or lack their pair. `constant`: one side has no training, hence no seeds.
    """
    return _sentence(c, alpha, finishing_only, constant) + (in_words(c.tuned) if c.tuned else "")


def _sentence(c: Comparison, alpha: float, finishing_only: bool, constant: bool) -> str:
    place = where(c.endpoint, c.datasets)
    if c.paired is None:
        refused = f"{c.method} cannot be compared with {c.against}: {c.refused}"
        return f"On {place}, {refused}. This is not evidence of equality."
    runs = ", among runs that finish" if finishing_only else ""
    if c.paired.n < MIN_PAIRS:
        return _too_few(c, c.paired, place)
    if c.verdict == "identical":
        seeds = count(c.paired.n, "seed")
        return f"On {place}, {c.method} and {c.against} have identical scores on all {seeds}{runs}."
    level = round(100 * c.paired.confidence)
    seeds = f"{c.paired.n} seeds against a constant" if constant else f"{c.paired.n} paired seeds"
    if isinstance(c.paired, Welch):
        seeds = f"{_samples(c.paired)}, {unpaired_test(c.paired)}"
    tested = f"{_CORRECTED[c.correction]} {p_value(c.p_adjusted)}{_over(c)}"
    ci = f"{level} % {'repeated ' if c.correction == 'looks' else ''}CI{', spread pooled' if c.pooled else ''}"
    if c.verdict in ("better", "worse"):
        text = (
            f"On {place}, {c.method} is {c.verdict} than {c.against} by {pp(abs(c.paired.mean))} pp "
            f"({ci} {_size_interval(c.paired)}, {seeds}, {tested}){runs}.{_new_images(c)}"
        )
        if c.margin is not None and c.p_equivalent is not None and c.p_equivalent < alpha:
            text += f" The difference is nevertheless within the margin of ±{pp(c.margin)} pp."
        return text
    if c.verdict == "equivalent" and c.interval_90 is not None and c.margin is not None:
        low, high = c.interval_90
        return (
            f"On {place}, {c.method} is equivalent to {c.against} within ±{pp(c.margin)} pp (90 % CI {pp(low)} to "
            f"{pp(high)} pp, {seeds}, Holm-adjusted equivalence p {p_value(c.p_equivalent)}{_over(c)}; the margin "
            f"as declared){runs}."
        )
    return _undecided(c, c.paired, place, ci, tested, alpha, runs)


def sequential(c: Comparison, alpha: float, finishing_only: bool) -> str:
    """The verdict of a comparison that runs until decided, as of its last look."""
    place, course = where(c.endpoint, c.datasets), c.course
    start = f"On {place}, {c.method} against {c.against}"
    rule = "no verdict before the rule says so"
    if c.paired is None or course is None or not course.looks:
        end = "This is not evidence of equality." if course is None or course.ended else f"It is open: {rule}."
        return f"{start}: {c.refused}. {end}"
    last, d = course.looks[-1], c.paired
    runs = ", among runs that finish" if finishing_only else ""
    known = ENGINES[course.engine][0]
    ends = _size_interval(d) if c.verdict in ("better", "worse") else _interval(d)
    interval = "no interval yet" if d.lo is None else f"{round(100 * (1 - alpha))} % {known} {ends} pp"
    p = "" if d.p is None else f", sequential p {p_value(d.p)} before correction"
    facts = f"{interval}, {count(d.n, 'paired seed')}{p}; error shared{_over(c)}"
    if not course.ended:
        side = f"the difference is {pp(d.mean, signed=True)} pp ({facts})"
        return f"{start} is open after the look at seed {last.n} of at most {course.last}{runs}: {rule}. So far {side}."
    stopped = (
        f" It stopped at seed {last.n} of at most {course.last} by a rule that keeps the error at {100 * alpha:g} % "
        f"over all looks; early stopping exaggerates effects, so the interval is the {ENGINES[course.engine][1]}."
    )
    if course.overrun is not None:
        n, low, high = course.overrun
        ends = f"{pp(low, signed=True)} to {pp(high, signed=True)}"
        stopped += f" With the seeds registered to follow, {n} in all, the t interval is {ends} pp."
    if c.verdict in ("better", "worse"):
        size = f"by {pp(abs(d.mean))} pp ({facts}){runs}. This holds for these test images."
        return f"On {place}, {c.method} is {c.verdict} than {c.against} {size}{stopped}"
    if c.verdict == "equivalent" and c.margin is not None:
        within = f"within ±{pp(c.margin)} pp ({facts}; the margin was registered before the runs){runs}."
        return f"On {place}, {c.method} is equivalent to {c.against} {within}{stopped}"
    if c.verdict == "identical":
        return f"On {place}, {c.method} and {c.against} have identical scores on all {count(d.n, 'seed')}{runs}."
    return f"{start} is not decided after {last.n} seeds{runs} ({facts}). This is not evidence of equality."


def _undecided(c: Comparison, d: Paired, place: str, ci: str, tested: str, alpha: float, runs: str) -> str:
    after = f"{d.n} seeds" if not isinstance(d, Welch) else f"{_samples(d)}, {unpaired_test(d)}"
    start = f"On {place}, {c.method} against {c.against} is not decided after {after}{runs}: "
    if isinstance(d, Welch) and d.lo is None:
        return start + "no run differs from another of its method, so no spread can be estimated. " + _NO_EVIDENCE
    if isinstance(d, TunedDifference) and d.reason:
        return f"{start}it has no interval, for {d.reason}. {_NO_EVIDENCE}"
    if d.lo is None or d.hi is None:
        return (
            start
            + f"every seed differs by exactly {pp(d.mean, signed=True)} pp and the test sets' sizes are unknown, so "
            "no spread can be estimated. This is not evidence of equality."
        )
    text = (
        start + f"the difference is between {pp(d.lo, signed=True)} and {pp(d.hi, signed=True)} pp ({ci}, {tested}). "
        "This is not evidence of equality."
    )
    if d.p is not None and d.p < alpha:
        text += f" The interval by itself excludes zero; corrected{_over(c)}, that is not enough."
    if c.margin is not None and c.seeds_needed is not None:
        text += f" About {_range(*c.seeds_needed)} seeds in all would be needed to detect {pp(c.margin)} pp."
    elif c.detectable is not None:
        text += f" With this spread, {d.n} seeds detect {pp(c.detectable)} pp with 80 % power."
    return text


def _range(low: int, high: int | None) -> str:
    if low > MANY_SEEDS:
        return f"{MANY_SEEDS} or many more"
    if high is None or high > MANY_SEEDS:
        return f"{low} or many more"
    return str(low) if low == high else f"{low} to {high}"


def _too_few(c: Comparison, d: Paired, place: str) -> str:
    side = f"{pp(abs(d.mean))} pp {'above' if d.mean >= 0 else 'below'} {c.against}"
    if isinstance(d, Welch):
        start = f"{_samples(d)}, unpaired. No statement about the method is possible below {MIN_PAIRS} runs of each."
        return f"{start} On {place}, {c.method} is on average {side}. {_NO_EVIDENCE}"
    if d.n == 1:
        item = "" if c.item_se is None else f" (standard error from the finite test sets: {pp(c.item_se)} pp)"
        start = "One seed. No statement about the method is possible."
        return f"{start} On {place}, with this seed, {c.method} is {side}{item}."
    return (
        f"Two seeds. No statement about the method is possible below {MIN_PAIRS}. On {place}, {c.method} is on average "
        f"{side}. This is not evidence of equality."
    )


def _samples(d: Welch) -> str:
    return f"{count(d.n_a, 'run')} against {d.n_b} with no seed in common"


def unpaired_test(d: Welch) -> str:
    """The name of the test of two samples, for a sentence: `unpaired, Welch's t with 7.3 df`."""
    return "unpaired, Welch’s t" + ("" if d.df is None else f" with {number(d.df, 1)} df")


def _over(c: Comparison) -> str:
    if c.family in ASKED:
        return f" over {count(c.family_size, 'pair')} {ASKED[c.family]}"
    return f" over {count(c.family_size, 'method × dataset cell' if c.family == 'shifts' else 'method')}"


def _interval(d: Paired) -> str:
    return MISSING if d.lo is None or d.hi is None else f"{pp(d.lo, signed=True)} to {pp(d.hi, signed=True)}"


def _size_interval(d: Paired) -> str:
    """The interval of the size of a difference, in the direction that the sentence names."""
    if d.lo is None or d.hi is None:
        return MISSING
    low, high = (d.lo, d.hi) if d.mean >= 0 else (-d.hi, -d.lo)
    return f"{pp(low)} to {pp(high)}"


def _new_images(c: Comparison) -> str:
    text = " This holds for these test images"
    if c.new_images is None or c.paired is None:
        return text + "."
    low, high = c.new_images.lo, c.new_images.hi
    if c.paired.mean < 0:
        low, high = -high, -low
    return text + f"; for new images of the same kind the interval is {pp(low)} to {pp(high)} pp."


def load_bearing(
    c: Comparison, dictionary: str, is_open: bool = False, unmoved: bool = False, searched: Collection[str] = ()
) -> str:
    """The answer to "Is the SAE load-bearing?", which never claims more than the comparison with a control whose
    dictionary is `dictionary`. `is_open`: trials of the sweep are still to come. `unmoved`: one of the two has the
    scores of a model that was not fine-tuned, or of guessing. `searched`: the methods whose settings were searched."""
    sae, control = c.method, c.against
    other = f"{'an' if dictionary.startswith('u') else 'a'} {dictionary} dictionary"
    if unmoved:
        return f"No answer: {sae} or {control} did not move from the frozen model, or only guesses. {c.sentence}"
    match c.verdict:
        case "better":
            start = f"Yes, on these test sets: {sae} beats its control {control}, whose dictionary is {dictionary}."
        case "worse":
            start = f"No: {control}, whose dictionary is {dictionary}, beats {sae}."
        case "equivalent":
            start = f"No: with {other} ({control}) the result stays within the margin of {sae}."
        case "identical":
            start = f"No: {sae} and {control} have identical scores."
        case _ if is_open and not (c.course and c.course.ended):
            start = f"Open: whether the trained SAE ({sae}) does more than {other} ({control}) is not decided yet."
        case _:
            start = (
                f"Not shown: this sweep does not distinguish the trained SAE ({sae}) from {other} ({control}), so "
                "the gain of the former cannot be credited to the SAE."
            )
    return f"{start} {c.sentence} {_strengths(sae, control, searched)}"


def _strengths(sae: str, control: str, searched: Collection[str]) -> str:
    """What the two have in common, and where the strength of each comes from."""
    found = [name for name in (sae, control) if name in searched]
    if len(found) == 2:
        return (
            "Both had the same form of penalty, the same sizes and the same search budget; each ran at the strength "
            "that its own search chose, so this answers for these choices and not for equal strength."
        )
    same = "Both had the same form of penalty and the same sizes;"
    if not found:
        return f"{same} neither was searched: each ran at the strength that the sweep file gives."
    given = control if found == [sae] else sae
    return (
        f"{same} {found[0]} ran at the strength that its search chose, {given} at the one that the sweep file gives: "
        "their budgets differ."
    )
