"""The content of a report as data: every number and verdict, before any of it becomes a page.

Accuracies, differences and margins are fractions here; the renderings turn them into % and percentage points (pp).
"""

from dataclasses import dataclass
from typing import Literal

from saeft_ray.features.content import WhatChanged
from saeft_ray.report.as_tuned import Tuned
from saeft_ray.report.searched import SearchSummary
from saeft_ray.report.standing import Standing
from saeft_ray.report.strengths import Chosen, Strengths
from saeft_ray.report.strengths import Verdict as Verdict
from saeft_ray.stats import Line, Mean, Paired


@dataclass(frozen=True, kw_only=True)
class Point:
    """One paired seed: the scores of the method and of what it is compared against. `seed` None: no training."""

    seed: int | None
    method: float
    against: float


@dataclass(frozen=True, kw_only=True)
class NewImages:
    """The interval of a difference for new seeds and new images of the same kind.

    `seed_share` is the share of the variance that seeds make, `se_seeds` and `se_images` the two parts of the standard
    error, `enough_seeds` the number of seeds beyond which more of them hardly narrow it.
    """

    lo: float
    hi: float
    confidence: float
    df: float
    seed_share: float
    enough_seeds: int | None
    se_seeds: float
    se_images: float


@dataclass(frozen=True, kw_only=True)
class LookTaken:
    """One look at one hypothesis: `pairs` complete of `n` seeds, t against the boundary for the share `level` of the
    error, the repeated interval and the sequential p so far."""

    n: int
    pairs: int
    mean: float | None
    sd: float | None
    t: float | None
    level: float
    boundary: float | None
    lo: float | None
    hi: float | None
    p: float | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class SequentialRun:
    """The looks of a comparison that ran until decided. `ended`: it has its verdict, or the last look was taken.

    `overrun`: pairs and plain t interval with the seeds that were registered to come after the verdict.
    """

    engine: str
    first: int
    last: int
    ended: bool
    looks: tuple[LookTaken, ...]
    overrun: tuple[int, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`method` against `against` on `endpoint`, within a family of `family_size` hypotheses corrected by Holm.

    `paired` is None where nothing can be compared; `refused` says why. `p_adjusted` and `p_equivalent` (two one-sided
    tests, adjusted) are None where no test was possible. `detectable` is the difference that this many pairs of this
    spread find with 80 % power; `seeds_needed` the range of seeds to find the margin, from the uncertainty of the
    spread. `item_se` is the standard error from the finite test sets where there is only one seed. `pooled`: t, p, sd
    and intervals borrow the spread of all methods. `discovery_p`: adjusted by Benjamini and Hochberg, for exploration.
    `unpaired` says why the runs of the two are no pairs: `paired` is then a `stats.Welch`, and there are no points.
    `tuned`: seeds were dealt over several configurations, and `paired` is a `stats.TunedDifference`.
    """

    method: str
    against: str
    endpoint: str
    datasets: tuple[str, ...]
    family: str
    family_size: int
    paired: Paired | None
    refused: str | None
    points: tuple[Point, ...]
    dropped_seeds: tuple[int, ...]
    p_adjusted: float | None
    p_equivalent: float | None
    margin: float | None
    interval_90: tuple[float, float] | None
    new_images: NewImages | None
    item_se: float | None
    detectable: float | None
    seeds_needed: tuple[int, int | None] | None
    verdict: Verdict
    sentence: str
    correction: Literal["Holm", "max-T", "looks"] = "Holm"
    course: SequentialRun | None = None
    pooled: bool = False
    discovery_p: float | None = None
    unpaired: str | None = None
    tuned: Tuned | None = None

    @property
    def label(self) -> str:
        """The method, with a word where its runs are no pairs."""
        return f"{self.method} (unpaired)" if self.unpaired else self.method


@dataclass(frozen=True, kw_only=True)
class Addition:
    """What was added at `time` (ISO), in words, and what had been `seen` by then; its comparisons have the error level
    `alpha`. `open`: its trials are still to come."""

    time: str
    added: tuple[str, ...]
    seen: str
    alpha: float
    open: bool
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, kw_only=True)
class Sharpened:
    """The estimate over all seeds of a comparison that has its verdict from the registered ones."""

    method: str
    against: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A method on a test set over its confirm seeds. `leading`: not significantly worse than the best of its column."""

    dataset: str
    mean: Mean | None
    seeds: tuple[int | None, ...]
    values: tuple[float, ...]
    leading: bool


@dataclass(frozen=True, kw_only=True)
class MethodResults:
    """A method's confirm scores, with the settings that were chosen for it. `ood` is the mean over all shifts."""

    name: str
    type: str
    settings: dict[str, object]
    configuration: str
    deterministic: bool
    derived: bool
    cells: tuple[Cell, ...]
    diagnostic: tuple[Cell, ...]
    id: Cell | None
    ood: Cell | None


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Failed confirm trials of a method out of those attempted, with the exact 95 % interval of the failure rate. Those
    that somebody stopped on purpose are apart, and no attempts: nobody knows how they would have ended."""

    method: str
    failed: int
    attempts: int
    lo: float
    hi: float
    errors: tuple[tuple[int | None, str], ...]
    stopped: tuple[tuple[int | None, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Description:
    """Paired differences of `method` from the baseline, besides their mean: interquartile mean over seeds × OOD sets,
    share of seeds that rise with its 95 % interval (None where seeds came until something was decided), and the 95 %
    interval of the correlation over seeds."""

    method: str
    n: int
    iqm: float
    improvement: float
    lo: float | None
    hi: float | None
    rho: float | None
    rho_interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class CheckpointPair:
    """Two single checkpoints on one test set: examples that one alone has right, and the exact p of McNemar's test that
    they differ. It says nothing of the methods that made them."""

    method: str
    against: str
    seed: int | None
    dataset: str
    only_method: int
    only_against: int
    p: float


@dataclass(frozen=True, kw_only=True)
class OnFront:
    """A method's mean ID and OOD accuracy, whether no other method is as good in both and better in one, and how often
    that holds when whole seeds are drawn anew (None below ten seeds)."""

    method: str
    id: float
    ood: float
    on_front: bool
    share: float | None


@dataclass(frozen=True, kw_only=True)
class Front:
    """The best trade-offs of ID and OOD accuracy, and the area that they dominate above `reference` (ID, OOD)."""

    reference: tuple[float, float]
    area: float
    seeds: int
    methods: tuple[OnFront, ...]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Methods interpolated between the same two end points, by their share of the second: `alphas` from 0 to 1."""

    alphas: tuple[float, ...]
    methods: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """A method's mean loss, and its mean selection accuracy where it was looked at, as (epoch, value) points over its
    confirm trials."""

    method: str
    trials: int
    loss: tuple[tuple[int, float], ...]
    selection: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Control:
    """The answer to "Is the SAE load-bearing?" for one SAE method and one random dictionary."""

    question: str
    answer: str
    comparison: Comparison


@dataclass(frozen=True, kw_only=True)
class AgainstCue:
    """Mean selection accuracies of a method over its `seeds` confirm seeds (0: it has none), on the images that go
    against a cue and on the others."""

    method: str
    seeds: int
    against: float
    others: float


@dataclass(frozen=True, kw_only=True)
class CueFound:
    """The association `v` (Cramér's V) of `groups` groups of training images with the label, in words and whether a cue
    is likely; the share of selection images that go `against` it, and each method there."""

    v: float
    words: str
    likely: bool
    against: float
    methods: tuple[AgainstCue, ...]


@dataclass(frozen=True, kw_only=True)
class Warning:
    """Something that limits what may be concluded. `rule` names it, `text` says it."""

    rule: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One line of the provenance."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a reader needs to repeat a sweep: what each method is, how all were trained, on which data, and which
    dictionary was read (empty where no method reads one)."""

    methods: tuple[Fact, ...]
    training: tuple[Fact, ...]
    data: tuple[Fact, ...]
    dictionary: tuple[Fact, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a report shows. Accuracies and differences are fractions. `metric` is what a reader calls them;
    `what_changed`: the record of features, where the sweep has one. `additions`, `extended` and `sharpened` are of what
    came after the registration (`report/added.py`); `methods` have all of it, `added_sets` are in no mean."""

    name: str
    created: str | None
    source: str | None
    baseline: str | None
    alpha: float
    margin: float | None
    endpoint: str
    open: bool
    exploratory: tuple[str, ...]
    confirm_seeds: tuple[int, ...]
    id_sets: tuple[str, ...]
    ood_sets: tuple[str, ...]
    diagnostic_sets: tuple[str, ...]
    headline: str
    standing: Standing
    methods: tuple[MethodResults, ...]
    primary: tuple[Comparison, ...]
    id: tuple[Comparison, ...]
    shifts: tuple[Comparison, ...]
    controls: tuple[Comparison, ...]
    load_bearing: tuple[Control, ...]
    sensitivity: tuple[Comparison, ...]
    effective: tuple[Comparison, ...]
    lines: dict[str, Line]
    described: tuple[Description, ...]
    checkpoints: tuple[CheckpointPair, ...]
    front: Front | None
    curves: tuple[Curve, ...]
    searches: tuple[SearchSummary, ...]
    failures: tuple[Failures, ...]
    warnings: tuple[Warning, ...]
    cue: CueFound | None
    provenance: tuple[Fact, ...]
    recipe: Recipe | None
    metric: str = "accuracy"
    what_changed: WhatChanged | None = None
    learning: tuple[LearningCurve, ...] = ()
    added_sets: tuple[str, ...] = ()
    additions: tuple[Addition, ...] = ()
    extended: tuple[Comparison, ...] = ()
    choices: tuple[Chosen, ...] = ()
    dealt: bool = False
    strengths: Strengths | None = None
    sharpened: tuple[Sharpened, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether trials are still to come, of the registered analysis or of what was added."""
        return self.open or any(each.open for each in self.additions)

    @property
    def unpaired(self) -> tuple[Comparison, ...]:
        """The comparisons of runs that are no pairs: with the baseline, then of declared pairs."""
        return tuple(c for c in (*self.primary, *self.controls) if c.unpaired and c.paired)
