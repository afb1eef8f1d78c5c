"""What a report says of strength: how each was chosen, and methods compared where strengths are equal."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

ONE_CHOICE = (
    "Methods as tuned were asked for, and no configuration is tied with a chosen one: one choice tells nothing of how "
    "choices differ."
)
"""What is said where methods as tuned have no choices to compare."""

Verdict = Literal["better", "worse", "equivalent", "identical", "undecided"]


@dataclass(frozen=True, kw_only=True)
class StrengthPoint:
    """A method at one strength, as means over seeds: KL to the frozen model, ID (None without such a set) and OOD
    accuracy."""

    kl: float
    id: float | None
    ood: float


@dataclass(frozen=True, kw_only=True)
class StrengthCurve:
    """A method over its strengths, by KL; `least` to `greatest` is the KL that any of its runs reached."""

    method: str
    points: tuple[StrengthPoint, ...]
    least: float
    greatest: float


@dataclass(frozen=True, kw_only=True)
class EqualStrength:
    """Two methods at equal KL: on `endpoint`, in a sentence; `difference` is None where there is no estimate."""

    method: str
    against: str
    endpoint: str
    difference: float | None
    lo: float | None
    hi: float | None
    p: float | None
    p_equivalent: float | None
    verdict: Verdict
    sentence: str


Difference = tuple[float, float, float]
"""A mean difference and the ends of its interval."""


class StrengthRun(NamedTuple):
    """One configuration with one seed: its numbers on the selection split and the means on ID and OOD sets. `type` is
    that of its method, `lambdas` are the names and values of its lambdas."""

    method: str
    configuration: str
    seed: int | None
    kl: float
    id: float
    ood: float
    type: str
    lambdas: tuple[tuple[str, float], ...]


class AtLambdas(NamedTuple):
    """A difference of two methods with the same lambdas, by name and value."""

    lambdas: tuple[tuple[str, float], ...]
    difference: Difference


@dataclass(frozen=True, kw_only=True)
class BesideStrength:
    """What else is known of two methods over their strengths, described and not tested: the difference at equal
    strength `again` with a curve of degree 5, that of the `area` above the frozen model's ID and plain fine-tuning's
    OOD accuracy or why there is none, and those at equal `lambdas`."""

    method: str
    against: str
    again: Difference | None
    area: Difference | str
    lambdas: tuple[AtLambdas, ...]


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Everything about strength: the curves, R² and residual of the one curve of all of them on OOD, the method that
    `departs` most from it with the R² of the others, the comparisons at equal strength on OOD and on ID, and what else
    is known `beside` them; `ends` are points of methods without strengths, by name."""

    curves: tuple[StrengthCurve, ...]
    ends: dict[str, StrengthPoint]
    r2: float | None
    residual: float | None
    departs: tuple[str, float] | None
    compared: tuple[EqualStrength, ...]
    without: tuple[str, ...]
    beside: tuple[BesideStrength, ...]

    def answer(self, method: str, against: str) -> EqualStrength | None:
        """The comparison of the two on the endpoint of the verdicts, which comes first; None if they have none."""
        return next((each for each in self.compared if (each.method, each.against) == (method, against)), None)


class Second(NamedTuple):
    """The configuration that a rule has second: its values, and the difference of its accuracy from that of the first
    over paired rerank seeds (a fraction), with its standard error, None where there is none."""

    values: str
    difference: float
    se: float | None


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """How the configuration of `method` was chosen in the rerank: by `rule`, with its mean `score` and `kl` to the
    frozen model; `eligible` of `configurations` met `threshold`. `best_score` and `best_values` are of what the rule
    `best` would have taken. `steady` is the share of redrawn selection accuracies that choose the same strength within
    one step of the grid, None for a single one; `fallback` says why the rule could not choose. `edges` are the open
    values that were chosen at an end of their range. `alike` others cannot be told from it by the rerank's seeds."""

    method: str
    rule: str
    configurations: int
    eligible: int
    threshold: float | None
    score: float | None
    kl: float | None
    best_score: float | None
    best_values: str
    is_best: bool
    steady: float | None
    fallback: str | None
    edges: tuple[str, ...]
    runner_up: Second | None
    alike: int
