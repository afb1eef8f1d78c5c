"""Methods over their strengths: what runs, and what the report says at equal strength."""

import json
from types import SimpleNamespace as Namespace

import folders
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from test_choosing import SEARCH
from test_plan import plan

from saeft_ray.config.sweep_file import parse
from saeft_ray.errors import UserError
from saeft_ray.methods.embeddings import MSE
from saeft_ray.methods.sae_ft import SaeFT
from saeft_ray.records.read import read_record, read_rows
from saeft_ray.records.rows import Row, table
from saeft_ray.report import report_sweep
from saeft_ray.report.at_equal_strength import at_equal_strength
from saeft_ray.report.headline import at_equal_strength as at_equal_strength_in_words

import sweeps


def test_curves_need_seeds_of_confirm():
    with pytest.raises(UserError, match="5 seeds are the first ones of confirm, which has 2"):
        parse(yaml.safe_dump({**sweeps.SMALL, "curves": {}}))


def test_a_path_scales_all_lambdas_alike():
    methods = {
        "ft": {},
        "zero_shot": {},
        "mse": {"lambda_mse": 100},
        "wise_ft": {"alpha": {"choices": [0.3]}},
        "sae_ft": {"lambda_resid": 10, "lambda_add": 100},
    }
    made = plan(methods=methods, confirm={"seeds": 3}, curves={"points": 3, "seeds": 2, "span": 4})
    chosen = {**made.config.methods, "wise_ft": made.alternatives("wise_ft")[0]}
    specs = made.curves(chosen)
    assert {spec.seed for spec in specs} == set(made.seeds("confirm")[:2])
    mine = [spec.settings for spec in specs if spec.method == "mse" and spec.number == 0]
    assert mine == [MSE(lambda_mse=25.0), MSE(lambda_mse=100.0), MSE(lambda_mse=400.0)]
    ratios = {spec.settings.lambda_add / spec.settings.lambda_resid for spec in specs if spec.method == "sae_ft"}
    assert len(ratios) == 1
    assert {spec.method for spec in specs} == {"mse", "sae_ft", "wise_ft"}
    assert made.counts()["curves"] == len(specs)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    methods = {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": {"low": 1, "high": 1000}}, "l1": {"lambda_l1": 1.0}}
    small = folders.sections(folders.images_in(folder))
    curves = {"points": 4, "seeds": 2}
    config = sweeps.config(folder / "runs", **small, methods=methods, curves=curves, **SEARCH)
    sweeps.run_here(config)
    return f"{folder}/runs/sweeps/small"


def test_a_sweep_runs_its_curves_with_seeds_of_confirm(ended):
    rows = read_rows(ended).to_pylist()
    of = {
        phase: {row["seed"] for row in rows if row["phase"] == phase and row["seed"]} for phase in ("confirm", "curves")
    }
    assert of["curves"] == of["confirm"]
    assert {row["method"] for row in rows if row["phase"] == "curves"} == {"mse", "l1"}
    assert {row["dataset"] for row in rows if row["phase"] == "curves" and row["metric"] == "accuracy"} == {
        "selection", "photos", "fog"
    }  # fmt: skip
    assert read_record(ended)["registration"]["curves"] == {"points": 4, "seeds": 2, "span": 10.0}


def test_the_report_compares_at_equal_strength_in_words(ended):
    report = report_sweep(ended).report
    assert [curve.method for curve in report.strengths.curves] == ["l1", "mse"]
    assert set(report.strengths.ends) == {"zero_shot", "ft"}
    assert {each.endpoint for each in report.strengths.compared} == {"OOD", "ID"}
    assert all(each.sentence for each in report.strengths.compared)
    assert not report.warnings or all("leak" not in each.rule for each in report.warnings)
    assert not report.exploratory


def given(offset, seeds=6, kls=(0.02, 0.05, 0.1, 0.2, 0.4), reach=1.0, noise=0.001):
    """Rows of two penalties on one concave curve, the second `offset` above it."""
    draws, rows = np.random.default_rng(0), list[Row]()
    for seed in range(seeds):
        for arm, shift, factor in (("a", 0.0, 1.0), ("b", offset, reach)):
            for k, kl in enumerate(kls):
                moved = kl * factor * float(np.exp(draws.normal(0, 0.02)))
                z = np.log(moved)
                ood = 0.7 - 0.02 * z - 0.01 * z**2 / 4 + shift + draws.normal(0, noise)
                rows += [point(arm, k, seed, "selection", "selection", "kl_to_frozen", moved),
                         point(arm, k, seed, "O", "ood", "accuracy", float(ood)),
                         point(arm, k, seed, "I", "id", "accuracy", 0.9 + draws.normal(0, noise))]  # fmt: skip
    return table(rows)


def point(arm, k, seed, dataset, role, metric, value, phase="curves"):
    settings = json.dumps({"type": arm, "lambda_x": 10.0 * 2**k + (arm == "b" and k == 0)})
    return Row(sweep="s", phase=phase, method=arm, configuration=f"{arm}{k}", settings=settings, seed=seed,
               trial=f"{phase}-{arm}-{k}-{seed}", dataset=dataset, role=role, metric=metric, value=value)  # fmt: skip


def compared(rows, margin=0.005):
    found = at_equal_strength(rows, ("I",), ("O",), [("b", "a")], 0.05, margin, "OOD")
    return found, next(each for each in found.compared if each.endpoint == "OOD")


def test_an_offset_is_found_and_none_is_equivalence():
    _, better = compared(given(0.01))
    assert better.verdict == "better"
    assert better.difference == pytest.approx(0.01, abs=0.001)
    assert "On OOD at equal strength, b is better than a" in better.sentence
    strengths, same = compared(given(0.0))
    assert same.verdict == "equivalent"
    assert "they are on the same curve" in same.sentence
    assert strengths.r2 > 0.9


def test_curves_that_share_no_strength_have_no_estimate():
    _, none = compared(given(0.0, reach=1000))
    assert none.difference is None
    assert none.verdict == "undecided"
    assert "no common range" in none.sentence


def test_beside_it_stand_another_degree_equal_lambdas_and_the_area():
    ends = [
        point(arm, 0, seed, dataset, role, metric, value, phase="confirm")
        for arm, seed in (("zero_shot", None), *(("ft", seed) for seed in range(6)))
        for dataset, role, metric, value in (
            ("selection", "selection", "kl_to_frozen", 0.0 if arm == "zero_shot" else 1.0),
            ("O", "ood", "accuracy", 0.6),
            ("I", "id", "accuracy", 0.8),
        )
    ]
    found, at_three = compared(pa.concat_tables([given(0.01), table(ends)]))
    (beside,) = found.beside
    assert beside.again[0] == pytest.approx(at_three.difference, abs=0.002)
    assert [dict(names)["lambda_x"] for names, _ in beside.lambdas] == [20, 40, 80, 160]  # b's least one is a's no more
    assert all(low < mean < high for _, (mean, low, high) in beside.lambdas)
    assert beside.area[0] == pytest.approx(0.01 * (0.9 - 0.8), abs=0.0003)
    (without,) = compared(given(0.01))[0].beside
    assert without.area == "needs zero_shot, ft and an ID set"


def renamed(rows, end):
    names = pa.array([f"{name}{end}" for name in rows["method"].to_pylist()])
    return rows.set_column(rows.schema.get_field_index("method"), rows.schema.field("method"), names)


def test_the_method_that_departs_from_the_one_curve_is_named():
    more = [renamed(given(0.0), "0"), renamed(given(0.0, noise=0.002), "1")]
    off = given(0.1)
    off = off.filter(pc.equal(off["method"], "b"))
    found = at_equal_strength(pa.concat_tables([*more, off]), ("I",), ("O",), [("b", "a0")], 0.05, 0.005, "OOD")
    assert found.departs[0] == "b"
    assert found.r2 < 0.5 < 0.9 < found.departs[1]


def test_equal_accuracies_on_few_images_are_no_certainty():
    rows = given(0.0, noise=0.0).to_pylist()
    flat = [{**row, "value": 1.0 if row["metric"] == "accuracy" else row["value"], "n": 24} for row in rows]
    _, said = compared(pa.Table.from_pylist(flat, schema=given(0.0).schema))
    assert said.lo < -0.005 < 0.005 < said.hi
    assert said.verdict == "undecided"


def test_order_changes_nothing():
    rows = given(0.003)
    backwards = rows.take(list(range(rows.num_rows))[::-1])
    assert compared(rows) == compared(backwards)


def test_a_sweep_without_curves_says_nothing_of_strength():
    assert at_equal_strength(given(0.0).slice(0, 0), ("I",), ("O",), [], 0.05, None, "OOD") is None


def test_the_strengths_around_a_published_one_are_not_published():
    published = SaeFT(preset="paper")
    path = [published.with_values({"lambda_add": published.lambda_add * factor}) for factor in (0.2, 1.0, 5.0)]
    assert [method.preset for method in path] == ["none", "paper", "none"]
    assert path[1] == published


def test_the_headline_answers_at_equal_strength_beside_the_chosen_one():
    found, _ = compared(given(0.0))
    one, other = (Namespace(comparison=Namespace(method="b", against=against)) for against in ("a", "c"))
    assert (
        at_equal_strength_in_words([one, other], found) == " At equal strength: b is equivalent to a within the margin."
    )
    assert at_equal_strength_in_words([other], found) == at_equal_strength_in_words([one], None) == ""
