"""Nothing can be added to a sweep in a way that turns looking into evidence: error rates where the truth is known."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from saeft_ray import stats
from saeft_ray.records.preregistration import added, designs, extended, preregistration

SWEEPS, MOST = 4_000, 20


def record(seeds, methods=("ft", "a"), amendments=(), until=None):
    """A sweep's record as far as a registration reads it."""
    number = {"min": 5, "max": until} if until else seeds
    return {
        "config": {
            "methods": {label: {} for label in methods},
            "report": {"baseline": "ft", "alpha": 0.05, "margin": None, "compare": []},
            "confirm": {"seeds": number, "engine": "t", "overrun": 0},
        },
        "data": {"roles": {"I": "id", "O": "ood"}},
        "confirm_seeds": list(range(1000, 1000 + (until or seeds))),
        "methods": {},
        "amendments": list(amendments),
    }


def amendment(before):
    kept = {name: before[name] for name in ("config", "data", "confirm_seeds", "methods")}
    return {"time": "2026-01-01T00:00:00+00:00", "seen": {"registered": True}, "before": kept}


@pytest.mark.parametrize("registered_seeds", [3, 5, 10])
def test_who_adds_seeds_until_it_is_significant_errs_in_no_more_than_55_of_1000(registered_seeds):
    draws = np.random.default_rng(registered_seeds).normal(size=(SWEEPS, MOST))
    then = record(registered_seeds)
    now = record(MOST, amendments=[amendment(then)])
    registered = preregistration(then)
    ((_, design),) = designs(extended(now, registered)).items()
    assert design.alpha == pytest.approx(0.005)
    first = ttest_1samp(draws[:, :registered_seeds], 0, axis=1).pvalue < 0.05
    # It holds at any number of seeds, so that one look after each of them stands for every way of extending.
    n = np.arange(1, MOST + 1)
    mean = draws.cumsum(1) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = ((draws**2).cumsum(1) - n * mean**2) / (n - 1)
        t = np.abs(mean) / np.sqrt(variance / n)
    bounds = np.array([design.critical(k, design.alpha) for k in n])
    later = (t >= bounds)[:, registered_seeds:].any(1)
    rate = (first | later).mean()
    assert 0.04 < first.mean() < 0.06
    assert rate <= 0.055 + 2 * np.sqrt(0.05 * 0.95 / SWEEPS)
    assert rate - first.mean() <= 0.005


def test_added_seeds_find_what_is_there():
    draws = np.random.default_rng(1).normal(loc=1.5, size=(200, MOST))
    now = record(MOST, amendments=[amendment(record(5))])
    ((name, design),) = designs(extended(now, preregistration(record(5)))).items()
    found = [stats.replay(design, {name: d.tolist()})[-1].steps[0].decision for d in draws]
    assert found.count("better") > 150
    assert found.count("worse") == 0


def test_who_adds_methods_until_one_is_significant_errs_as_often_as_one_family_does():
    amendments, methods, current = list[dict](), ["ft", "a"], record(5)
    for number in range(8):
        amendments.append(amendment(current))
        methods.append(f"m{number}")
        current = record(5, methods, amendments)
    rules = added(current, preregistration(record(5)))
    assert [next(iter(rule["families"].values())) for rule in rules] == [[[f"m{k}", "ft"]] for k in range(8)]
    levels = [rule["alpha"] for rule in rules]
    assert sum(levels) < 0.05
    draws = np.random.default_rng(2).normal(size=(SWEEPS, len(rules), 5))
    false = (ttest_1samp(draws, 0, axis=2).pvalue < levels).any(1)
    assert false.mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SWEEPS)


def test_more_seeds_of_a_sequential_sweep_are_read_by_the_engine_without_an_end():
    now = record(0, amendments=[amendment(record(0, until=8))], until=12)
    rule = extended(now, preregistration(record(0, until=8)))
    assert rule["engine"] == "anytime"
    assert rule["looks"] == [9, 10, 11, 12]
    assert extended(record(0, until=8), preregistration(record(0, until=8))) is None


def test_what_was_decided_needs_no_smaller_family():
    """The size stays that of the whole family, whatever was left undecided: which that is was seen."""
    now = record(6, ("ft", "a", "b", "c"), [amendment(record(5, ("ft", "a", "b", "c")))])
    rule = extended(now, preregistration(record(5, ("ft", "a", "b", "c"))))
    one_left = {**rule, "families": {"primary-extended": [["a", "ft"]]}}
    assert designs(one_left)["primary-extended"].size == 3
