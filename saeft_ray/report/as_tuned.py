"""Methods as tuned: seeds that were dealt over several configurations, beside the chosen configuration alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saeft_ray import stats
from saeft_ray.report.numbers import count, in_list, pp
from saeft_ray.report.scores import Seed, Trials
from saeft_ray.stats.runner_up import Side, side


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a comparison of methods as tuned rests on: how many `choices` the two have, by method, each of a search of
    its own or of tied configurations; and the difference on the seeds with the `chosen` ones and on those with the
    `second` of a method, None where there are fewer than two such seeds. `sides` is where the two intervals lie."""

    choices: dict[str, int]
    searches: bool
    chosen: stats.Paired | None
    second: stats.Paired | None
    sides: tuple[Side, Side] | None


def difference(a: Mapping[Seed, float], b: Mapping[Seed, float], seeds: Sequence[Seed], of: tuple[Trials, Trials],
               confidence: float) -> stats.TunedDifference:  # fmt: skip
    """The difference of the two methods `of` as tuned over `seeds`."""
    first, second = (_labels(trials, seeds) for trials in of)
    return stats.tuned_difference([a[s] for s in seeds], [b[s] for s in seeds], first, second, confidence)


def tuned(a: Mapping[Seed, float], b: Mapping[Seed, float], seeds: Sequence[Seed], of: tuple[Trials, Trials],
          confidence: float, margin: float | None, floor: float) -> Tuned:  # fmt: skip
    """What the chosen configurations, and the second ones, say by themselves."""

    def alone(place: int) -> stats.Paired | None:
        used = [s for s in seeds if all(trials.choice(s) == min(place, trials.choices - 1) for trials in of)]
        if len(used) < 2:
            return None
        return stats.paired([a[s] for s in used], [b[s] for s in used], confidence, floor)

    chosen, second = alone(0), alone(1)
    sides = _side(chosen, margin), _side(second, margin)
    return Tuned(
        choices={trials.method: trials.choices for trials in of if trials.choices > 1},
        searches=any(trials.searches for trials in of),
        chosen=chosen,
        second=second,
        sides=(sides[0], sides[1]) if sides[0] and sides[1] else None,
    )


def in_words(found: Tuned) -> str:
    """What a verdict is about, and what its configurations say alone, as sentences."""
    what = "searches" if found.searches else "configurations"
    dealt = in_list([f"{number} {what} of {method}" for method, number in found.choices.items()])
    text = f" This is about the methods as tuned: the seeds were dealt over {dealt}."
    alone = [("chosen", found.chosen), ("second", found.second)]
    said = [f"the {which} ones alone it is {_interval(d)}" for which, d in alone if d]
    if not said:
        return f"{text} None of these has seeds enough for an interval of its own."
    text += f" With {', with '.join(said)}."
    if found.sides is None:
        return text
    before, after = found.sides
    turns = "so it would not turn" if before == after else "so it would turn"
    return f"{text} Uncorrected, the former is {before}, the latter {after}, {turns} with these."


def _side(d: stats.Paired | None, margin: float | None) -> Side | None:
    """Where a difference lies by itself: equivalence is asked with the 90 % interval (docs/statistics.md 4.14)."""
    if d is None or d.lo is None or d.hi is None:
        return None
    found = side((d.lo, d.hi))
    within = d.interval(0.90) if margin is not None else None
    return side(within, margin) if found == Side.UNDECIDED and within and side(within) == Side.UNDECIDED else found


def mean_as_tuned(trials: Trials, values: Mapping[Seed, float], confidence: float) -> stats.AsTuned:
    """The mean of `values` by seed, with an interval for what other choices would give."""
    return stats.as_tuned(list(values.values()), [trials.choice(seed) for seed in values], confidence)


def _labels(trials: Trials, seeds: Sequence[Seed]) -> list[int] | None:
    return [trials.choice(seed) for seed in seeds] if trials.choices > 1 else None


def _interval(d: stats.Paired) -> str:
    if d.lo is None or d.hi is None:
        return f"{pp(d.mean, signed=True)} pp ({count(d.n, 'seed')})"
    ends = f"{pp(d.lo, signed=True)} to {pp(d.hi, signed=True)}"
    return f"{pp(d.mean, signed=True)} pp ({round(100 * d.confidence)} % CI {ends}, {count(d.n, 'seed')})"
