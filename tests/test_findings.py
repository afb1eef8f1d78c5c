"""From rows to numbers, verdicts and words: every rule of the protocol that a report applies."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeft_ray import stats
from saeft_ray.records.rows import Row, table
from saeft_ray.report import findings
from saeft_ray.report.content import Comparison, Report
from saeft_ray.report.numbers import number, p_value
from saeft_ray.report.verdicts import verdict_of

import report_rows
from report_rows import record, rows


def report(given_rows: list[Row], **rules: Any) -> Report:
    return findings(table(given_rows), record(**rules))


def of(comparisons: tuple[Comparison, ...], method: str) -> Comparison:
    return next(c for c in comparisons if c.method == method)


def changed(given_rows: list[Row], method: str, dataset: str, seed: int | None = None, **values: Any) -> list[Row]:
    return [
        dataclasses.replace(row, **values)
        if (row.method, row.dataset, row.phase) == (method, dataset, "confirm") and seed in (None, row.seed)
        else row
        for row in given_rows
    ]


def test_primary_is_the_paired_mean_over_the_shifts_with_holm() -> None:
    given_rows = rows(search=False)
    got = report(given_rows)
    accuracy = {(r.method, r.seed, r.dataset): r.value for r in given_rows}
    ood = [d for d, role in report_rows.ROLES.items() if role == "ood"]

    def mean(method: str, seed: int | None) -> float:
        return float(np.mean([accuracy[method, seed, d] for d in ood]))

    expected = []
    for c in got.primary:
        a = [mean(c.method, None if c.method == "zero_shot" else s) for s in range(1000, 1005)]
        b = [mean("ft", s) for s in range(1000, 1005)]
        reference = stats.paired(a, b)
        assert c.paired is not None
        assert c.paired.mean == pytest.approx(reference.mean)
        assert c.paired.p == pytest.approx(reference.p)
        expected.append(c.paired.p)
    assert [c.p_adjusted for c in got.primary] == pytest.approx(list(stats.holm(expected)))
    assert [c.family_size for c in got.primary] == [5] * 5
    assert of(got.primary, "sae_ft").verdict == "better"
    assert "Holm-adjusted p < .001 over 5 methods" in of(got.primary, "sae_ft").sentence
    assert "for new images of the same kind the interval is" in of(got.primary, "sae_ft").sentence
    assert of(got.id, "zero_shot").verdict == "worse"
    assert {c.family_size for c in got.shifts} == {35}


def test_a_method_without_seed_is_a_constant() -> None:
    c = of(report(rows()).primary, "zero_shot")
    assert c.paired is not None
    assert c.paired.n == 5
    assert c.paired.rho is None
    assert "5 seeds against a constant" in c.sentence


def test_equivalent_needs_a_margin() -> None:
    given_rows = rows(shift={"mse": -0.0444}, seeds=8)
    without = of(report(given_rows).primary, "mse")
    assert without.verdict == "undecided"
    assert "not evidence of equality" in without.sentence
    with_margin = of(report(given_rows, margin=0.02).primary, "mse")
    assert with_margin.verdict == "equivalent"
    assert "within ±2.00 pp (90 % CI" in with_margin.sentence


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8),
    st.one_of(st.none(), st.floats(0, 1)),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_check_24_no_verdict_of_equivalence_without_a_margin(
    pairs: list[tuple[float, float]], p: float | None, q: float | None
) -> None:
    a, b = zip(*pairs, strict=True)
    paired = stats.paired(a, b)
    verdict = verdict_of(paired, p, q, 0.05, None)
    assert verdict != "equivalent"
    if paired.n < 3:
        assert verdict == "undecided"


def test_check_24_undecided_says_that_it_is_not_equality_and_what_it_could_have_seen() -> None:
    c = of(report(rows()).controls, "sae_ft")
    assert c.verdict == "undecided"
    assert "not evidence of equality" in c.sentence
    assert "seeds detect" in c.sentence
    c = of(report(rows(), margin=0.001).controls, "sae_ft")
    assert "seeds in all would be needed to detect 0.10 pp" in c.sentence


def test_an_interval_that_excludes_zero_before_correction_only_is_said_to_be_so() -> None:
    for shift in np.linspace(-0.043, -0.036, 15):
        few = rows(seeds=4, methods=["ft", "mse"], shift={"mse": float(shift)}, search=False, bits=False)
        c = of(report(few).primary, "mse")
        if c.verdict == "undecided" and c.paired is not None and c.paired.p is not None and c.paired.p < 0.05:
            assert "The interval by itself excludes zero; corrected over 5 methods, that is not enough." in c.sentence
            return
    pytest.fail("no such case was made")


def test_load_bearing_never_claims_more_than_the_comparison() -> None:
    (control,) = report(rows()).load_bearing
    assert control.answer.startswith("Not shown")
    (control,) = report(rows(shift={"sae_ft": 0.03})).load_bearing
    assert control.answer.startswith("Yes, on these test sets")
    (control,) = report(rows(shift={"sae_ft": -0.03})).load_bearing
    assert control.answer.startswith("No: random_dictionary")
    (control,) = report(rows(seeds=8), margin=0.01).load_bearing
    assert control.answer.startswith("No: with a random dictionary")
    assert report(rows(methods=["ft", "sae_ft"])).load_bearing == ()


def test_load_bearing_says_where_each_strength_comes_from() -> None:
    given = rows()
    (control,) = report(given).load_bearing
    assert "each ran at the strength that its own search chose" in control.answer
    (control,) = report(rows(search=False)).load_bearing
    assert "neither was searched: each ran at the strength that the sweep file gives" in control.answer
    of_one = [row for row in given if row.phase == "confirm" or row.method != "random_dictionary"]
    (control,) = report(of_one).load_bearing
    assert "sae_ft ran at the strength that its search chose, random_dictionary at the one" in control.answer


def test_a_pair_that_nobody_declared_is_not_called_declared() -> None:
    pair = ["mse", "wise_ft"]
    for declared, words in (
        ([], "over 1 pair asked by the report, not declared"),
        ([["sae_ft", "random_dictionary"]], "over 1 pair that the sweep declares"),
        ([pair], "over 2 pairs declared or asked by the report"),
    ):
        (control,) = report(rows(seeds=6), compare=declared).load_bearing
        assert words in control.comparison.sentence


def test_load_bearing_asks_about_every_control_that_differs_in_its_dictionary_alone() -> None:
    given = record()
    given["config"]["methods"] |= {
        "sae_ft": {
            "type": "sae_ft",
            "dictionary": "trained",
            "lambda_add": {"low": 1.0, "high": 1e3},
            "lambda_resid": 3.0,
        },
        "mse": {"type": "sae_ft", "dictionary": "untrained", "lambda_add": 5.0, "lambda_resid": 3.0},
        "random_dictionary": {"type": "random_dictionary", "lambda_add": 5.0, "lambda_resid": 0.0},
    }
    (control,) = findings(table(rows()), given).load_bearing  # the random one pays by other terms
    assert (control.comparison.method, control.comparison.against) == ("sae_ft", "mse")
    assert "mse, whose dictionary is untrained" in control.answer
    given["config"]["methods"]["mse"] |= {"scaling": "relative"}
    assert findings(table(rows()), given).load_bearing == ()


def test_load_bearing_does_not_ask_where_terms_weigh_otherwise() -> None:
    given = record()
    given["config"]["methods"] |= {
        "sae_ft": {"type": "sae_ft", "dictionary": "trained", "lambda_add": 200.0, "lambda_resid": 200.0},
        "random_dictionary": {"type": "random_dictionary", "lambda_add": 600.0, "lambda_resid": 60.0},
    }
    assert findings(table(rows()), given).load_bearing == ()
    given["config"]["methods"]["random_dictionary"] |= {"lambda_resid": 600.0}
    assert len(findings(table(rows()), given).load_bearing) == 1


def test_declared_pairs_are_a_family_of_their_own() -> None:
    got = report(rows(), compare=[["sae_ft", "mse"], ["sae_ft", "random_dictionary"]])
    assert [(c.method, c.against, c.family_size) for c in got.controls] == [
        ("sae_ft", "mse", 2),
        ("sae_ft", "random_dictionary", 2),
    ]


def test_check_24_confirm_seeds_that_were_used_before_are_refused() -> None:
    given_rows = rows()
    reused = [dataclasses.replace(r, seed=11) if r.seed == 1000 else r for r in given_rows]
    with pytest.raises(ValueError, match=r"confirm used seed 11, which rerank used too"):
        report(reused)


def test_duplicates_and_two_configurations_are_refused() -> None:
    given_rows = rows(search=False)
    with pytest.raises(ValueError, match="two confirm rows for method zero_shot"):
        report([*given_rows, given_rows[0]])
    two = [dataclasses.replace(r, configuration="other") if r.seed == 1001 else r for r in given_rows]
    with pytest.raises(ValueError, match="2 configurations in confirm"):
        report(two)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the baseline names the method 'fft'; this sweep has ft, "):
        report(rows(), baseline="fft")
    with pytest.raises(ValueError, match=r"compare names the method 'nobody'"):
        report(rows(), compare=[["sae_ft", "nobody"]])


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 1.2, -0.1])
def test_a_value_that_is_no_accuracy_is_a_failure_and_never_zero(value: float | None) -> None:
    got = report(changed(rows(), "sae_ft", "R", seed=1002, value=value))
    c = of(got.primary, "sae_ft")
    assert c.paired is not None
    assert c.paired.n == 4
    assert c.dropped_seeds == (1002,)
    assert "among runs that finish" in c.sentence
    failures = next(f for f in got.failures if f.method == "sae_ft")
    assert (failures.failed, failures.attempts) == (1, 5)
    assert failures.lo < 0.2 < failures.hi
    assert "missing pairs" in {w.rule for w in got.warnings}
    # The other test sets keep the seed.
    sketch = next(s for s in got.shifts if (s.method, s.datasets) == ("sae_ft", ("Sketch",)))
    assert sketch.paired is not None
    assert sketch.paired.n == 5
    # The sensitivity row scores the failed run as a guess, which is far worse.
    guess = of(got.sensitivity, "sae_ft")
    assert guess.paired is not None
    assert guess.paired.n == 5
    assert guess.paired.mean < c.paired.mean


def test_failed_trials_and_all_failed_methods() -> None:
    got = report(rows(failed=[("mse", s) for s in range(1000, 1005)]))
    c = of(got.primary, "mse")
    assert c.paired is None
    assert "mse finished no trial there" in c.sentence
    assert c.verdict == "undecided"
    assert next(m for m in got.methods if m.name == "mse").ood.mean is None
    assert next(f for f in got.failures if f.method == "mse").failed == 5


def test_missing_dataset_drops_the_seed_from_the_mean_only() -> None:
    given_rows = [r for r in rows() if (r.method, r.seed, r.dataset) != ("mse", 1001, "C")]
    got = report(given_rows)
    assert of(got.primary, "mse").dropped_seeds == (1001,)
    assert next(f for f in got.failures if f.method == "mse").failed == 0


def test_check_22_other_example_orders_refuse_single_examples_only() -> None:
    got = report(changed(rows(), "mse", "R", examples="another order"))
    c = of(got.primary, "mse")
    assert c.paired is not None
    assert c.new_images is None
    assert of(got.primary, "sae_ft").new_images is not None
    assert "example order" in {w.rule for w in got.warnings}


def test_other_test_set_sizes_refuse_the_comparison() -> None:
    got = report(changed(rows(bits=False), "mse", "R", n=999))
    c = of(got.primary, "mse")
    assert c.paired is None
    assert "different numbers of examples of R (999 and 1000)" in c.sentence


def test_new_images_are_never_more_certain_than_these_images() -> None:
    for c in (*report(rows()).primary, *report(rows()).shifts):
        assert c.new_images is not None
        assert c.paired is not None
        assert c.new_images.lo <= c.paired.lo
        assert c.new_images.hi >= c.paired.hi


def test_one_and_two_seeds_claim_nothing() -> None:
    one = of(report(rows(seeds=1)).primary, "sae_ft")
    assert one.verdict == "undecided"
    assert one.sentence.startswith("One seed. No statement about the method is possible.")
    assert one.item_se is not None
    two = of(report(rows(seeds=2)).primary, "sae_ft")
    assert two.verdict == "undecided"
    assert two.p_adjusted is None
    assert all(not cell.leading for m in report(rows(seeds=2)).methods for cell in m.cells)


def test_identical_and_all_equal_differences() -> None:
    given_rows = rows(search=False)
    ft = {(r.seed, r.dataset): r for r in given_rows if r.method == "ft"}
    copied = [
        dataclasses.replace(r, value=ft[r.seed, r.dataset].value, correct=ft[r.seed, r.dataset].correct)
        if r.method == "mse"
        else r
        for r in given_rows
    ]
    c = of(report(copied).primary, "mse")
    assert c.verdict == "identical"
    assert c.p_adjusted == 1
    shifted = [
        dataclasses.replace(r, value=(ft[r.seed, r.dataset].value or 0) + 0.01, correct=None)
        if r.method == "mse"
        else dataclasses.replace(r, correct=None)
        for r in given_rows
    ]
    c = of(report(shifted).primary, "mse")
    assert c.paired is not None
    assert c.paired.floored
    assert c.verdict == "better"
    unknown = [dataclasses.replace(r, n=None) for r in shifted]
    c = of(report(unknown).primary, "mse")
    assert c.verdict == "undecided"
    assert "no spread can be estimated" in c.sentence


def test_leading_set_is_whole() -> None:
    got = report(rows())
    leading = {m.name for m in got.methods if m.ood is not None and m.ood.leading}
    assert "ft" not in leading
    assert {"sae_ft", "random_dictionary"} <= leading


def test_search_is_disclosed_and_leaks_are_flagged() -> None:
    got = report(rows())
    search = next(s for s in got.searches if s.method == "sae_ft")
    assert (search.search.trials, search.search.configurations, search.search.seeds) == (8, 8, (0,))
    assert (search.rerank.trials, search.rerank.seeds) == (6, (11, 12, 13))
    assert search.selected_on == ("selection",)
    assert search.rerank.chosen_score is not None
    assert "unequal tuning" in {w.rule for w in got.warnings}
    leaked = [dataclasses.replace(r, dataset="A", role="ood") if r.phase == "search" else r for r in rows()]
    text = next(w.text for w in report(leaked).warnings if w.rule == "selected_on_test")
    assert "selected on A itself" in text


def test_warnings_by_rule() -> None:
    assert "few seeds" in {w.rule for w in report(rows()).warnings}
    assert "too few seeds" in {w.rule for w in report(rows(seeds=2)).warnings}
    assert "few seeds" not in {w.rule for w in report(rows(seeds=6)).warnings}
    given_rows = rows(seeds=8, bits=False, search=False)
    rng = np.random.default_rng(0)
    noise = dict(zip(range(1000, 1008), rng.permutation(np.linspace(-0.05, 0.05, 8)), strict=True))
    noisy = [
        dataclasses.replace(r, value=(r.value or 0) + float(noise[r.seed or 0])) if r.method == "mse" else r
        for r in given_rows
    ]
    outlier = [
        dataclasses.replace(r, value=(r.value or 0) - 0.2) if (r.method, r.seed) == ("sae_ft", 1003) else r
        for r in noisy
    ]
    text = {w.rule: w.text for w in report(outlier).warnings}
    assert "mse against ft" in text["low correlation"]
    assert "sae_ft against ft" in text["skewness"]


def test_shared_dictionaries_are_told() -> None:
    own = record()
    own["config"]["dictionary"] = {"seeds": 1}
    text = next(w.text for w in findings(table(rows()), own).warnings if w.rule == "few dictionaries")
    assert text.startswith("5 confirm seeds shared 1 dictionary of each kind")
    assert "few dictionaries" not in {w.rule for w in report(rows()).warnings}


def test_methods_come_untrained_first_then_the_baseline_and_random_controls_last() -> None:
    own = record()
    own["config"]["methods"] = dict(sorted(own["config"]["methods"].items()))
    names = [m.name for m in findings(table(rows()), own).methods]
    assert names == ["zero_shot", "ft", "mse", "sae_ft", "wise_ft", "random_dictionary"]


def test_empty_and_partial_sweeps() -> None:
    empty = findings(table([]), record())
    assert empty.primary == ()
    assert "nothing can be said" in empty.headline
    only_search = findings(table([r for r in rows() if r.phase != "confirm"]), record())
    assert {w.rule for w in only_search.warnings} >= {"no confirm"}
    bare = findings(table(rows()), {})
    assert bare.baseline is None
    assert "no baseline" in {w.rule for w in bare.warnings}
    only_id = [r for r in rows(search=False) if r.role == "id"]
    assert "no OOD set" in {w.rule for w in report(only_id).warnings}
    without_ft = report(rows(methods=["zero_shot", "mse"]))
    assert all(c.verdict == "undecided" for c in without_ft.primary)
    assert "missing methods" in {w.rule for w in without_ft.warnings}


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_check_25_the_order_of_rows_changes_nothing(random: Any) -> None:
    given_rows = rows(seeds=3, bits=False)
    expected = report(given_rows)
    random.shuffle(given_rows)
    assert report(given_rows) == expected


def test_numbers_in_words() -> None:
    assert number(-0.001) == "0.00"
    assert number(0.001, signed=True) == "0.00"
    assert number(-1.5, 1) == "−1.5"
    assert number(1.5, 1, signed=True) == "+1.5"
    assert p_value(0.0071) == "= .007"
    assert p_value(0.0001) == "< .001"
    assert p_value(1.0) == "= 1"
    assert p_value(0.04999) == "= .0500"
    assert p_value(None) == "–"
