"""What a report says of searches: what was tried, in which order, and which open value mattered."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PhaseSummary:
    """The trials that one phase spent on a method, and how the chosen configuration scored in it. `stopped` are those
    that the search stopped early, `on_purpose` those that somebody did. `next_score`: the best of the others."""

    phase: str
    trials: int
    configurations: int
    seeds: tuple[int, ...]
    failed: int
    stopped: int
    on_purpose: int
    chosen_score: float | None
    chosen_seeds: int
    best_score: float | None
    next_score: float | None = None


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """One trial of a search: its score on the selection metric (None if it failed) and the values it was given."""

    number: int
    score: float | None
    status: str
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The share of one open value in reaching the best quarter of a search's scores. `chance`: what one search in
    twenty exceeds whose scores say nothing."""

    name: str
    share: float
    chance: float


@dataclass(frozen=True, kw_only=True)
class History:
    """A method's search in order. `expected_best[b − 1]` is the expected best of b of its finished trials, drawn
    without replacement: no forecast, for later suggestions learn from earlier ones. `importance` is empty below
    `enough` finished trials, or where one value alone was open."""

    suggestions: tuple[Suggestion, ...]
    expected_best: tuple[float, ...]
    importance: tuple[Importance, ...]
    enough: int


@dataclass(frozen=True, kw_only=True)
class SearchSummary:
    """The choice of a method's configuration: on which data, by which metric, at which cost."""

    method: str
    search: PhaseSummary
    rerank: PhaseSummary
    selected_on: tuple[str, ...]
    metric: str
    leaked: tuple[str, ...]
    history: History | None = None
