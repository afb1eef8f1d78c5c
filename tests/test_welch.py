"""Runs that share no seeds: Welch's comparison, and that it is never mixed with paired ones or called one."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_ind

from saeft_ray import stats
from saeft_ray.report import findings
from saeft_ray.report.__main__ import main
from saeft_ray.report.comparisons import Family, Pair, compare
from saeft_ray.report.from_table import read_table
from saeft_ray.report.scores import Score, Trials


def table(folder: Path, methods: dict[str, tuple[int, list[float]]]) -> Path:
    """A table in which each method has its first seed and its scores on V2; on A it is 10 pp worse, on ID better."""
    path = folder / "runs.csv"
    lines = ["method,seed,ID,V2,A"]
    lines += [
        f"{name},{first + k},{v + 0.1:.5f},{v:.5f},{v - 0.1:.5f}"
        for name, (first, values) in methods.items()
        for k, v in enumerate(values)
    ]
    path.write_text("\n".join(lines))
    return path


FT = [0.52, 0.55, 0.53, 0.57, 0.54]
MIXED = {
    "ft": (0, FT),
    "twin": (0, [v + 0.03 + 0.001 * (-1) ** k for k, v in enumerate(FT)]),
    "far": (100, [0.71, 0.69, 0.72, 0.70]),
}


def test_welch_is_scipys() -> None:
    rng = np.random.default_rng(1)
    for n, m in ((3, 3), (4, 9), (20, 2)):
        a, b = rng.normal(0.6, 0.02, n), rng.normal(0.5, 0.005, m)
        got, known = stats.welch(a, b), ttest_ind(a, b, equal_var=False)
        ends = known.confidence_interval(0.95)
        assert (got.t, got.df, got.p, got.lo, got.hi) == pytest.approx((known.statistic, known.df, known.pvalue, *ends))
        assert got.interval(0.95) == pytest.approx(tuple(ends))
    for a, b in (([0.5], [0.4, 0.5]), ([0.5, 0.5], [0.4, 0.4]), ([0.5, 0.5], [0.5, 0.5])):
        nothing = stats.welch(a, b)
        assert (nothing.t, nothing.p, nothing.lo, nothing.se, nothing.identical) == (None, None, None, None, False)
        assert stats.tost(nothing, 0.1) is None
    assert stats.welch([0.5, 0.5, 0.5], [0.4, 0.5, 0.6]).df == pytest.approx(2)
    with pytest.raises(ValueError, match="finite"):
        stats.welch([0.5, float("nan")], [0.5, 0.6])


@pytest.mark.parametrize(("n", "m", "ratio"), [(3, 3, 1), (5, 5, 3), (4, 10, 2), (10, 4, 2)])
def test_the_interval_covers_the_true_difference(n: int, m: int, ratio: float) -> None:
    rng = np.random.default_rng(15)
    truth, draws = 0.02, 600
    hits = 0
    for _ in range(draws):
        found = stats.welch(rng.normal(0.6 + truth, 0.01 * ratio, n), rng.normal(0.6, 0.01, m))
        assert found.lo is not None
        assert found.hi is not None
        hits += found.lo <= truth <= found.hi
    assert hits / draws >= 0.93


def test_equivalence_errs_within_its_level_at_the_margin() -> None:
    rng = np.random.default_rng(16)
    found = [stats.tost(stats.welch(rng.normal(0.02, 0.01, 5), rng.normal(0, 0.01, 6)), 0.02) for _ in range(600)]
    assert sum(p is not None and p < 0.05 for p in found) / 600 <= 0.07


def test_a_family_of_pairs_and_samples_keeps_its_level() -> None:
    rng = np.random.default_rng(17)

    def trials(name: str, first: int, shared: list[float]) -> Trials:
        own = {first + k: 0.6 + v + rng.normal(0, 0.005) for k, v in enumerate(shared)}
        scores = {seed: {"V2": Score(value=v, n=None, examples=None, packed=None)} for seed, v in own.items()}
        return Trials(method=name, seeds={*own}, scores={**scores}, elsewhere=True)

    draws, claims, unpaired = 400, 0, 0
    for _ in range(draws):
        shared = rng.normal(0, 0.01, 5).tolist()
        base = trials("ft", 0, shared)
        others = [trials("a", 0, shared), trials("b", 0, shared)]
        others += [trials(name, 50, rng.normal(0, 0.01, 6).tolist()) for name in ("c", "d")]
        pairs = tuple(Pair(method=t, against=base, endpoint="OOD", datasets=("V2",)) for t in others)
        found = compare(Family(name="primary", pairs=pairs), 0.05, None)
        unpaired += sum(c.unpaired is not None for c in found)
        claims += any(c.verdict in ("better", "worse") for c in found)
    assert unpaired == 2 * draws
    assert claims / draws <= 0.07


def test_samples_and_pairs_stand_in_one_family_and_are_told_apart(tmp_path: Path) -> None:
    got = findings(*read_table(table(tmp_path, MIXED), "ft", ["ID"], 0.05))
    twin, far = got.primary
    assert (twin.method, far.method) == ("twin", "far")
    assert not isinstance(twin.paired, stats.Welch)
    assert (twin.unpaired, len(twin.points)) == (None, 5)
    assert isinstance(far.paired, stats.Welch)
    expected = stats.welch([v - 0.05 for v in MIXED["far"][1]], [v - 0.05 for v in FT])
    assert (far.paired.p, far.paired.df) == pytest.approx((expected.p, expected.df))
    assert far.unpaired == "far has seeds 100 to 103, ft seeds 0 to 4: none in common"
    assert (far.points, far.dropped_seeds, far.detectable, far.seeds_needed) == ((), (), None, None)
    raw = [c.paired.p if c.paired and c.paired.p is not None else 1.0 for c in got.primary]
    assert [c.p_adjusted for c in got.primary] == pytest.approx(stats.holm(raw).tolist())
    assert {c.family_size for c in got.primary} == {2}
    words = "4 runs against 5 with no seed in common, unpaired, Welch’s t with "
    assert words in far.sentence
    assert "unpaired" not in twin.sentence
    assert [d.method for d in got.described] == ["twin"]
    assert "better than ft: twin and far (unpaired)" in got.headline
    assert "far has seeds 100 to 103" in {w.rule: w.text for w in got.warnings}["unpaired"]
    assert all(c.unpaired for c in (*got.id, *got.shifts) if c.method == "far")


def test_every_rendering_says_which_are_unpaired(tmp_path: Path) -> None:
    path = table(tmp_path, MIXED)
    given = ["--table", str(path), "--baseline", "ft", "--id", "ID", "--compare", "far,twin", "--pool", "--quiet"]
    assert main(given) == 0
    out = tmp_path / "runs-report"
    text, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    for words in (
        "where they share seeds, and else as two samples (“unpaired”)",
        "far (unpaired)",
        "Unpaired: far has seeds 100",
    ):
        assert words in text, words
        assert words in page, words
    assert "4 | 5 runs, df" in page
    assert "far (unpaired)" in (out / "forest.svg").read_text()
    assert "far (unpaired)" in (out / "shifts.svg").read_text()
    tests = {(row["kind"], row["method"]): row["test"] for row in csv.DictReader((out / "results.csv").open())}
    assert tests["primary", "twin"] == "paired t"
    assert {tests[kind, "far"] for kind in ("primary", "id", "shifts", "controls")} == {"Welch t, unpaired"}
    far = next(c for c in json.loads((out / "report.json").read_text())["primary"] if c["method"] == "far")
    assert (far["paired"]["n_a"], far["paired"]["n_b"], far["paired"]["rho"]) == (4, 5, None)
    assert far["unpaired"].endswith("none in common")


def test_equivalence_and_few_runs_and_no_spread(tmp_path: Path) -> None:
    body = {"ft": (0, FT), "same": (9, FT), "two": (20, [0.5, 0.6]), "flat": (30, [0.5] * 4), "one": (40, [0.5])}
    got = findings(*read_table(table(tmp_path, body), "ft", ["ID"], 0.05, margin=0.15))
    by = {c.method: c for c in got.primary}
    assert by["same"].verdict == "equivalent"
    assert "no seed in common, unpaired, Welch’s t with 8.0 df" in by["same"].sentence
    for name in ("two", "one"):
        assert by[name].verdict == "undecided"
        assert "No statement about the method is possible below 3 runs of each" in by[name].sentence
    assert {"unpaired", "few runs", "too few runs"} <= {w.rule for w in got.warnings}
    constant = findings(*read_table(table(tmp_path, {"ft": (0, [0.6] * 3), "flat": (9, [0.5] * 3)}), "ft", [], 0.05))
    assert "no spread can be estimated" in constant.primary[0].sentence
    assert constant.primary[0].verdict == "undecided"


def test_one_seed_in_common_makes_pairs_even_where_it_failed(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(
        "method,seed,V2\n" + "".join(f"ft,{s},0.{50 + s}\n" for s in range(5)) + "m,4,\nm,5,0.6\nm,6,0.7\nm,7,0.6"
    )
    (c,) = findings(*read_table(path, "ft", [], 0.05)).primary
    assert (c.paired, c.unpaired) == (None, None)
    assert "no seed was finished by both" in c.sentence
