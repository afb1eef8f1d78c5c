"""Properties that hold for any numbers: invariance, monotonicity, and no number that is none in any report."""

import dataclasses
import itertools
import json
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from saeft_ray import stats
from saeft_ray.records.rows import Row, table
from saeft_ray.report import findings
from saeft_ray.report.content import Comparison, Report
from saeft_ray.report.render import exports
from saeft_ray.report.render.html import render as page
from saeft_ray.report.render.markdown import render as markdown

from report_rows import record, rows

fractions = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))
values = st.one_of(fractions, st.none())
untimed = settings(deadline=None)  # on a shared machine any call may take a second
differences = st.lists(st.floats(-0.2, 0.2).map(lambda x: round(x, 4)), min_size=2, max_size=10)


def record_of(methods: list[str], sets: dict[str, str], **rules: Any) -> dict[str, Any]:
    return {
        "name": "any",
        "config": {
            "methods": {name: {"type": name} for name in methods},
            "report": {"baseline": "a", "alpha": 0.05, "margin": None, "compare": [], **rules},
        },
        "data": {"roles": sets, "classes": 10},
    }


@st.composite
def anything(draw: Any) -> tuple[list[Row], dict[str, Any]]:
    """Any table of a few methods, seeds and test sets, with holes, ties, failures and constants."""
    methods = ["a", "b", "c"][: draw(st.integers(1, 3))]
    sets = {name: role for name, role in (("I", "id"), ("X", "ood"), ("Y", "ood")) if draw(st.booleans())}
    out = []
    for method in methods:
        seeds: list[int | None] = draw(st.one_of(st.just([None]), st.just(list(range(draw(st.integers(0, 6)))))))
        size = draw(st.sampled_from([None, 1, 10, 1000]))
        for seed in seeds:
            for name, role in sets.items():
                if draw(st.integers(0, 9)) == 0:
                    continue
                value = draw(values)
                out.append(
                    Row(
                        sweep="any", phase="confirm", method=method, configuration=method, settings="{}", seed=seed,
                        trial=f"{method}-{seed}", dataset=name, role=role, metric="accuracy", value=value, n=size,
                        status="ok" if value is not None else "failed", error=None if value is not None else "diverged",
                    )
                )  # fmt: skip
    rules = {
        "margin": draw(st.sampled_from([None, 0.01])),
        "variance": draw(st.sampled_from(["own", "pooled"])),
        "lines": {"X": [0.9, -0.5]} if draw(st.booleans()) and sets.get("X") else {},
    }
    return out, record_of(["a", "b", "c"], sets, **rules)


@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.generate])
@given(anything())
def test_check_23_no_rows_give_a_number_that_is_none(given: tuple[list[Row], dict[str, Any]]) -> None:
    rows_, own = given
    report = findings(table(rows_), own)
    json.loads(exports.as_json(report))  # NaN and infinity are refused there
    texts = [page(report, {}), markdown(report, {}), exports.as_csv(report), exports.as_latex(report)]
    for text in texts:
        shown = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", text, flags=re.DOTALL)
        assert not re.search(r"(?<!\w)[-−+]?(nan|inf|infinity)(?!\w)", shown, re.IGNORECASE)
        assert not re.search(r"\bNone\b", shown)
    for c in (*report.primary, *report.shifts, *report.id):
        assert c.verdict != "equivalent" or own["config"]["report"]["margin"] is not None
        assert c.verdict in ("undecided", "identical") or (c.paired is not None and c.paired.n >= stats.MIN_PAIRS)


def numbers(c: Comparison) -> list[Any]:
    d = c.paired
    found = [c.verdict, c.p_adjusted, len(c.dropped_seeds)]
    return found if d is None else [*found, d.n, d.mean, d.sd, d.t, d.p, d.lo, d.hi, d.rho, d.sign_flip_p, d.wins]


def same(one: Report, other: Report) -> None:
    for family in ("primary", "id", "shifts", "controls"):
        mine = {(c.method, c.against, c.datasets): numbers(c) for c in getattr(one, family)}
        theirs = {(c.method, c.against, c.datasets): numbers(c) for c in getattr(other, family)}
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert value == pytest.approx(theirs[key])


@settings(max_examples=3, deadline=None)
@given(st.permutations(range(5)), st.permutations(list(record()["config"]["methods"])))
def test_check_25_seeds_may_be_renamed_and_methods_reordered(seeds: list[int], methods: list[str]) -> None:
    plain = rows(search=False, bits=False, failed=[("mse", 1001)])
    renamed = [r if r.seed is None else dataclasses.replace(r, seed=1000 + seeds[r.seed - 1000]) for r in plain]
    own = record()
    own["config"]["methods"] = {name: own["config"]["methods"][name] for name in methods}
    same(findings(table(plain), record()), findings(table(renamed), own))


@untimed
@given(differences, st.floats(0.001, 0.1))
def test_a_gain_on_every_seed_only_helps(d: list[float], gain: float) -> None:
    before, after = (
        stats.paired(d, [0.0], variance_floor=1e-8),
        stats.paired(np.add(d, gain), [0.0], variance_floor=1e-8),
    )
    assert after.mean > before.mean
    assert after.wins >= before.wins
    assert before.lo is not None
    assert after.lo is not None
    assert after.lo > before.lo - 1e-12
    assert stats.improvement(np.add(d, gain)).share >= stats.improvement(d).share
    assert stats.iqm(np.add(d, gain)) > stats.iqm(d)
    if before.mean > 0 and before.p is not None and after.p is not None and not before.identical:
        assert after.p <= before.p + 1e-12


@untimed
@given(differences, st.floats(0.5, 0.9), st.floats(0.01, 0.09))
def test_more_confidence_is_wider_and_a_wider_margin_is_easier(d: list[float], low: float, more: float) -> None:
    got = stats.paired(d, [0.0], variance_floor=1e-8)
    narrow, wide = got.interval(low), got.interval(low + more)
    assert narrow is not None
    assert wide is not None
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]
    easy, hard = stats.tost(got, 0.1), stats.tost(got, 0.05)
    assert easy is not None
    assert hard is not None
    assert easy <= hard + 1e-12


@untimed
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1), st.integers(0, 7))
def test_a_smaller_p_never_raises_an_adjusted_one(p: list[float], factor: float, which: int) -> None:
    lower = list(p)
    lower[which % len(p)] *= factor
    for adjust in (stats.holm, stats.benjamini_hochberg):
        assert (adjust(lower) <= adjust(p) + 1e-12).all()
    assert (stats.benjamini_hochberg(p) <= stats.holm(p) + 1e-12).all()


@untimed
@given(st.floats(0, 30), st.floats(0, 30), st.integers(2, 40))
def test_evidence_grows_with_t(a: float, b: float, n: int) -> None:
    low, high = sorted((a, b))
    assert stats.e_value(low, n) <= stats.e_value(high, n) * (1 + 1e-12)
    looks = tuple(range(5, 21))
    if n in looks:
        assert stats.sequential_p([high], [n], looks) <= stats.sequential_p([low], [n], looks)


@untimed
@given(st.lists(st.floats(-30, 30), min_size=16, max_size=16))
def test_a_sequential_p_agrees_with_the_boundary_of_its_level(t: list[float]) -> None:
    looks = tuple(range(5, 21))
    p = stats.sequential_p(t, looks, looks)
    assert all(b <= a for a, b in itertools.pairwise(p))
    crossed = np.cumsum(np.abs(t) >= np.array(stats.boundaries(looks))) > 0
    close = np.abs(np.abs(t) / np.array(stats.boundaries(looks)) - 1).min() < 1e-6
    assert close or [value <= 0.05 for value in p] == crossed.tolist()
    assert all(math.isfinite(value) for value in p)
