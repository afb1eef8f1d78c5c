"""What a report shows beside its verdicts, and from which numbers."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saeft_ray import stats
from saeft_ray.config.sweep_file import parse
from saeft_ray.records.preregistration import preregistration
from saeft_ray.records.rows import Row, table
from saeft_ray.report import findings, write_report
from saeft_ray.report.content import Comparison, Report
from saeft_ray.report.render.blocks import Folded, Table, Text
from saeft_ray.report.render.sections import sections

from report_rows import ROLES, record, rows
from sweeps import config

OOD = [name for name, role in ROLES.items() if role == "ood"]
LINE = (0.9, -0.5)


def report(given: list[Row], **rules: Any) -> Report:
    return findings(table(given), record(**rules))


def of(comparisons: tuple[Comparison, ...], method: str) -> Comparison:
    return next(c for c in comparisons if c.method == method)


def folded(got: Report) -> list[Folded]:
    """The secondary sections, which the page folds."""
    made = (block for section in sections(got) if section.frame == "none" for block in section.blocks)
    return [block for block in made if isinstance(block, Folded)]


def accuracies(given: list[Row]) -> dict[tuple[str, int | None, str], float]:
    return {(r.method, r.seed, r.dataset): r.value or 0.0 for r in given if r.phase == "confirm"}


def test_effective_robustness_is_a_paired_difference_over_seeds() -> None:
    given = rows(search=False)
    lines = dict.fromkeys(OOD[:3], LINE)
    got = of(report(given, lines=lines).effective, "mse")
    known, line = accuracies(given), stats.Line(slope=LINE[0], intercept=LINE[1])

    def beyond(method: str, seed: int) -> float:
        expected = float(line.at(known[method, seed, "ID"]))
        return float(np.mean([known[method, seed, name] - expected for name in OOD[:3]]))

    reference = stats.paired(*([beyond(m, s) for s in range(1000, 1005)] for m in ("mse", "ft")))
    assert got.paired is not None
    assert (got.paired.mean, got.paired.p) == pytest.approx((reference.mean, reference.p))
    assert got.sentence.startswith("On effective robustness, mse is better than ft by")
    assert report(given).effective == ()
    with pytest.raises(ValueError, match="lines names 'Sketchy', which is not an OOD set; this sweep has A, C, ON"):
        report(given, lines={"Sketchy": LINE})
    # An ID accuracy of 1 has no logit of its own.
    perfect = [dataclasses.replace(r, value=1.0) if r.dataset == "ID" else r for r in given]
    assert of(report(perfect, lines=lines).effective, "mse").paired is not None


def test_descriptions_beside_the_mean() -> None:
    given = rows(seeds=10, search=False)
    got = next(d for d in report(given).described if d.method == "mse")
    known = accuracies(given)
    single = [known["mse", s, d] - known["ft", s, d] for s in range(1000, 1010) for d in OOD]
    assert got.iqm == pytest.approx(stats.iqm(single))
    assert (got.improvement, got.hi) == (1.0, 1.0)
    assert got.lo == pytest.approx(0.6915, abs=1e-4)
    assert got.rho is not None
    assert got.rho_interval is not None
    assert got.rho_interval[0] < got.rho < got.rho_interval[1]


def test_the_front_its_area_and_how_often() -> None:
    given = rows(seeds=10, search=False)
    front = report(given).front
    assert front is not None
    assert front.reference == (0.1, 0.1)
    by_name = {m.method: m for m in front.methods}
    assert not by_name["ft"].on_front
    best = max(front.methods, key=lambda m: m.ood)
    assert best.on_front
    assert all(m.share is not None and 0 <= m.share <= 1 for m in front.methods)
    points = [(m.id, m.ood) for m in front.methods]
    assert front.area == pytest.approx(stats.hypervolume(points, front.reference))
    assert report(given).front == front
    few = report(rows(search=False)).front
    assert few is not None
    assert {m.share for m in few.methods} == {None}, "five seeds are too few to be drawn anew"


def test_one_seed_may_compare_two_checkpoints_under_words_of_their_own() -> None:
    one = rows(seeds=1, search=False)
    got = report(one)
    bits = {(r.method, r.dataset): r for r in one}
    c = next(c for c in got.checkpoints if (c.method, c.dataset) == ("mse", "R"))
    right = [np.unpackbits(np.frombuffer(bits[m, "R"].correct or b"", np.uint8))[:1000] for m in ("mse", "ft")]
    only = int((right[0] > right[1]).sum()), int((right[0] < right[1]).sum())
    assert (c.only_method, c.only_against) == only
    assert c.p == stats.mcnemar(*only)
    assert any(f.title == "Two checkpoints, not two methods" for f in folded(got))
    assert report(rows(seeds=2, search=False)).checkpoints == ()
    assert report(rows(seeds=1, search=False, bits=False)).checkpoints == ()


def test_wise_ft_is_a_curve_between_its_end_points() -> None:
    given = [
        dataclasses.replace(r, settings=json.dumps({"type": "wise_ft", "of": "ft", "alpha": 0.5}))
        if (r.method, r.phase) == ("wise_ft", "confirm")
        else r
        for r in rows(search=False)
    ]
    (curve,) = report(given).curves
    assert curve.alphas == (0.0, 0.5, 1.0)
    assert curve.methods == ("zero_shot", "wise_ft", "ft")


def test_a_pooled_spread_is_opt_in_and_refused_in_words() -> None:
    given = rows(search=False)
    own, pooled = report(given), report(given, variance="pooled")
    c = of(pooled.primary, "mse")
    assert c.pooled
    assert c.paired is not None
    trained = ["ft", "wise_ft", "mse", "sae_ft", "random_dictionary"]
    known = accuracies(given)
    scores = [[np.mean([known[m, s, d] for d in OOD]) for m in trained] for s in range(1000, 1005)]
    expected = stats.pooled(scores)
    assert expected is not None
    assert (c.paired.df, c.paired.p) == (16, pytest.approx(expected.p[1]))
    assert "95 % CI, spread pooled" in c.sentence
    assert not of(pooled.primary, "zero_shot").pooled
    assert not of(own.primary, "mse").pooled
    rng = np.random.default_rng(0)
    noise = dict(zip(range(1000, 1005), rng.normal(0, 0.05, 5), strict=True))
    uneven = [
        dataclasses.replace(r, value=(r.value or 0) + noise[r.seed or 0], correct=None) if r.method == "mse" else r
        for r in given
    ]
    got = report(uneven, variance="pooled")
    rules = {w.rule: w.text for w in got.warnings}
    assert "spreads differ by more than a factor of 2" in rules["not pooled"]
    assert "times the smallest" in rules["uneven spreads"]
    assert not any(c.pooled for c in got.primary)
    assert "uneven spreads" not in {w.rule for w in own.warnings}


def test_a_pooled_spread_is_registered_and_not_for_looks() -> None:
    made = config("runs", report={"variance": "pooled"})
    sizes = {"config": made.determining_settings(), "data": {"roles": ROLES}, "confirm_seeds": [1, 2]}
    assert preregistration(sizes)["variance"] == "pooled"
    sizes["config"]["report"]["variance"] = "own"
    assert "variance" not in preregistration(sizes)
    with pytest.raises(ValueError, match=r"report\.variance: pooled with confirm\.seeds: \{min, max\}"):
        config("runs", report={"variance": "pooled"}, confirm={"seeds": {"min": 5, "max": 9}})
    text = "report: {lines: {V2: [0.92, -0.5]}}"
    assert "report" not in str(_mistakes(text))


def _mistakes(text: str) -> ValueError:
    with pytest.raises(ValueError, match="mistakes") as caught:
        parse(text)
    return caught.value


def test_discoveries_are_below_holm_and_called_exploratory() -> None:
    got = report(rows(search=False))
    for c in got.shifts:
        assert c.discovery_p is not None
        assert c.p_adjusted is not None
        assert c.discovery_p <= c.p_adjusted + 1e-12
    text, cells = next(f.blocks for f in folded(got) if "false discovery rate" in f.title)
    assert isinstance(text, Text)
    assert str(text.words).startswith("No verdicts, but places to look at next")
    assert isinstance(cells, Table)
    undecided = {(c.method, c.datasets[0]) for c in got.shifts if c.verdict == "undecided"}
    assert {(line[0].words, line[1].words) for line in cells.lines} <= undecided


def test_every_folded_section_is_on_the_page_in_markdown_and_its_numbers_in_json(tmp_path: Path) -> None:
    given, rules = rows(seeds=10), {"lines": dict.fromkeys(OOD, LINE)}
    own = record(**rules)
    write_report(table(given), own, tmp_path)
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    titles = [f.title for f in folded(findings(table(given), own))]
    assert len(titles) >= 4
    for title in titles:
        assert f"<details><summary>{title}" in page
        assert f"### {title}" in text
    for name in ("Effective robustness", "standard models"):
        assert name in page
        assert name in text
    assert "standard models" in (tmp_path / "plane.svg").read_text()
    numbers = json.loads((tmp_path / "report.json").read_text())
    for key in ("effective", "described", "front", "curves", "lines", "checkpoints"):
        assert key in numbers
    assert "effective," in (tmp_path / "results.csv").read_text()


def test_an_open_sweep_shows_none_of_it() -> None:
    own = record(lines=dict.fromkeys(OOD, LINE))
    own["config"]["confirm"] = {"seeds": {"min": 5, "max": 12}, "engine": "t", "overrun": 0}
    own["confirm_seeds"] = list(range(1000, 1012))
    own["registration"] = preregistration(own)
    got = findings(table(rows(seeds=6, shift={"mse": -0.0444})), own)
    assert got.open
    assert got.described == got.checkpoints == ()
    assert got.front is None
    assert all(c.discovery_p is None for c in got.shifts)
    assert {c.verdict for c in got.effective} == {"undecided"}
    assert all(math.isfinite(c.paired.mean) for c in got.effective if c.paired)
    assert folded(got) == []
