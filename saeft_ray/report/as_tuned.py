"""Methods as tuned: seeds that were dealt over several configurations, beside the chosen configuration alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saeft_ray import stats
from saeft_ray.report.numbers import count, in_list, pp
from saeft_ray.report.scores import Seed, Trials
from saeft_ray.stats.runner_up import Turn
from saeft_ray.stats.runner_up import turn as turned

_TURNS = {
    Turn.HOLDS: "the verdict would hold",
    Turn.REVERSES: "the verdict would be reversed",
    Turn.IS_LOST: "the verdict would be lost",
    Turn.CHANGES: "the verdict would change",
}


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a comparison of methods as tuned rests on: how many `configurations` the two have, by method, and the
    difference on the seeds with the `chosen` ones and on those with the `second` of a method, None where one of the two
    has fewer than two seeds. `turn` is what becomes of the former's verdict with the latter."""

    configurations: dict[str, int]
    chosen: stats.Paired | None
    second: stats.Paired | None
    turn: Turn | None


def difference(a: Mapping[Seed, float], b: Mapping[Seed, float], seeds: Sequence[Seed], of: tuple[Trials, Trials],
               confidence: float) -> stats.TunedDifference:  # fmt: skip
    """The difference of the two methods `of` as tuned over `seeds`."""
    first, second = (_labels(trials, seeds) for trials in of)
    return stats.tuned_difference([a[s] for s in seeds], [b[s] for s in seeds], first, second, confidence)


def tuned(a: Mapping[Seed, float], b: Mapping[Seed, float], seeds: Sequence[Seed], of: tuple[Trials, Trials],
          confidence: float, margin: float | None, floor: float) -> Tuned:  # fmt: skip
    """What the chosen configurations, and the second ones, say by themselves."""

    def alone(place: int) -> stats.Paired | None:
        used = [s for s in seeds if all(_place(trials, s) == min(place, trials.choices - 1) for trials in of)]
        if len(used) < 2:
            return None
        return stats.paired([a[s] for s in used], [b[s] for s in used], confidence, floor)

    chosen, second = alone(0), alone(1)
    ends = [(found.lo, found.hi) for found in (chosen, second) if found]
    known = [(lo, hi) for lo, hi in ends if lo is not None and hi is not None]
    turn = turned(known[0], known[1], margin) if len(known) == 2 else None
    many = {trials.method: trials.choices for trials in of if trials.choices > 1}
    return Tuned(configurations=many, chosen=chosen, second=second, turn=turn)


def in_words(found: Tuned) -> str:
    """What a verdict is about, and what its configurations say alone, as sentences."""
    dealt = in_list([f"{number} configurations of {method}" for method, number in found.configurations.items()])
    text = f" This is about the methods as tuned: the seeds were dealt over {dealt}."
    if found.chosen is None:
        return f"{text} None of these has seeds enough for an interval of its own."
    text += f" With the chosen configurations alone the difference is {_interval(found.chosen)}"
    if found.second is None:
        return f"{text}."
    text += f", with the second ones {_interval(found.second)}"
    return f"{text}: {_TURNS[found.turn]} with these." if found.turn else f"{text}."


def mean_as_tuned(trials: Trials, values: Mapping[Seed, float], confidence: float) -> stats.AsTuned:
    """The mean of `values` by seed, with an interval for what other choices would give."""
    return stats.as_tuned(list(values.values()), [_place(trials, seed) for seed in values], confidence)


def _labels(trials: Trials, seeds: Sequence[Seed]) -> list[int] | None:
    return [_place(trials, seed) for seed in seeds] if trials.choices > 1 else None


def _place(trials: Trials, seed: Seed) -> int:
    """Which of its configurations the method used with `seed`; 0 is the chosen one."""
    return trials.dealt.index(trials.configurations[seed]) if seed in trials.configurations else 0


def _interval(d: stats.Paired) -> str:
    if d.lo is None or d.hi is None:
        return f"{pp(d.mean, signed=True)} pp ({count(d.n, 'seed')})"
    ends = f"{pp(d.lo, signed=True)} to {pp(d.hi, signed=True)}"
    return f"{pp(d.mean, signed=True)} pp ({round(100 * d.confidence)} % CI {ends}, {count(d.n, 'seed')})"
