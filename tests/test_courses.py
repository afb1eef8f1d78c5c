"""Reports of sweeps that run until decided."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_report import edge_cases

from saeft_ray.records.preregistration import preregistration
from saeft_ray.records.rows import Row, table
from saeft_ray.report import findings, write_report
from saeft_ray.report.__main__ import main
from saeft_ray.report.render.markdown import render as markdown

from report_rows import ROLES, put_json, put_rows, record, rows

pytestmark = pytest.mark.usefixtures("no_figures_for_papers")
SEEDS = list(range(1000, 1012))
METHODS = ["zero_shot", "ft", "mse", "sae_ft", "random_dictionary"]


def registered(engine: str = "t", first: int = 5, last: int = 12, **rules: Any) -> dict[str, Any]:
    own = record(**rules)
    own["config"]["methods"] = {name: {"type": name} for name in METHODS}
    own["config"]["confirm"] = {"seeds": {"min": first, "max": last}, "engine": engine, "overrun": 0}
    own["confirm_seeds"] = SEEDS[:last]
    own["registration"] = preregistration(own)
    return own


def until(counts: dict[str, int], **given: Any) -> list[Row]:
    """Rows of the first `counts` seeds of each method."""
    return [
        row
        for row in rows(seeds=12, methods=METHODS, search=False, **given)
        if row.seed is None or row.seed < 1000 + counts.get(row.method, 12)
    ]


def test_a_decided_method_shows_only_what_holds_at_every_look(tmp_path: Path) -> None:
    own = registered()
    counts = {"mse": 6, "sae_ft": 5, "random_dictionary": 5}
    got = findings(table(until(counts)), own)
    c = next(c for c in got.primary if c.method == "sae_ft")
    assert c.course is not None
    assert c.course.ended
    assert c.verdict == "better"
    assert "stopped at seed 5 of at most 12 by a rule that keeps the error at 5 % over all looks" in c.sentence
    assert c.paired is not None
    assert c.paired.n == 5
    assert c.paired.p == c.course.looks[-1].p
    assert (c.paired.lo, c.paired.hi) == (c.course.looks[-1].lo, c.course.looks[-1].hi)
    assert c.p_adjusted is c.new_images is c.interval_90 is c.paired.sign_flip_p is None
    # The sixth seed of mse was in flight when its verdict fell: it takes no part.
    mse = next(c for c in got.primary if c.method == "mse")
    assert mse.paired is not None
    assert mse.paired.n == mse.course.looks[-1].n == 5
    assert got.exploratory == ()
    # The controls had no rule of their own: still only numbers that hold at any look.
    (control,) = got.controls
    assert control.new_images is None
    assert control.paired is not None
    assert control.paired.sign_flip_p is None
    write_report(table(until(counts)), own, tmp_path / "a")
    write_report(table(until(counts)[::-1]), own, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    page = (tmp_path / "a" / "report.html").read_text()
    assert "repeated CI" in page
    assert "<h2>Looks</h2>" in page
    assert (tmp_path / "a" / "looks.svg").exists()


@pytest.mark.parametrize("engine", ["t", "exact", "anytime"])
def test_an_open_sweep_gives_no_verdict_and_no_plain_interval(tmp_path: Path, engine: str) -> None:
    own = registered(engine, margin=0.0001)
    given = until({}, shift={"mse": -0.0444, "random_dictionary": -0.04})
    early = [row for row in given if row.seed is None or row.seed < 1006]
    got = findings(table(early), own)
    assert got.open
    assert got.headline.startswith("Open: no verdict before the rule says so.")
    c = next(c for c in got.primary if c.method == "mse")
    assert (c.verdict, c.course.ended) == ("undecided", False)
    assert "is open after the look at seed 6 of at most 12" in c.sentence
    assert all(cell.mean is None or cell.mean.lo is None for m in got.methods for cell in m.cells)
    (question,) = got.load_bearing
    assert question.answer.startswith("Open: whether the trained SAE (sae_ft) does more than a random dictionary")
    write_report(table(early), own, tmp_path)
    for name in ("report.html", "report.md"):
        assert "no verdict before the rule says so" in (tmp_path / name).read_text()
    assert json.loads((tmp_path / "report.json").read_text())["open"] is True
    none = findings(table([row for row in early if row.seed is None or row.seed < 1003]), own)
    assert "the first comes with 5 seeds" in next(c for c in none.primary if c.method == "mse").sentence
    closed = findings(table(given), own)
    assert not closed.open
    assert not closed.load_bearing[0].answer.startswith("Open")
    assert next(c for c in closed.primary if c.method == "mse").verdict == "undecided"
    assert "not evidence of equality" in next(c for c in closed.primary if c.method == "mse").sentence


def test_a_changed_registration_makes_everything_exploratory() -> None:
    own = registered()
    own["registration"] = {**own["registration"], "alpha": 0.01}
    got = findings(table(until({})), own)
    assert got.exploratory == ("the sweep differs from its registration in alpha",)
    assert "Exploratory, not as registered." in got.headline
    assert "exploratory" in {w.rule for w in got.warnings}


def test_more_seeds_than_registered_are_exploratory_from_there_on() -> None:
    own = registered(last=8)
    own["config"]["confirm"]["seeds"] = {"min": 5, "max": 12}
    own["confirm_seeds"] = SEEDS
    got = findings(table(until({})), own)
    (fault,) = got.exploratory
    assert fault.endswith("; exploratory from seed 9 on")
    # The registered analysis stays what it was: no look beyond its last seed.
    assert all(c.course.looks[-1].n <= 8 for c in got.primary if c.course)


def test_what_was_registered_stands_in_the_provenance() -> None:
    facts = {f.name: f.value for f in findings(table(until({})), registered(margin=0.01)).provenance}
    assert facts["registered"].startswith("before the first confirm trial: mean of V2, R, Sketch, ON, C, UCI and A;")
    assert facts["registered"].endswith(
        "hypotheses: primary 4; error 0.05 per family; margin ±1 pp; engine t, looks at 5 to 12 seeds, overrun 0"
    )
    plain = {f.name: f.value for f in findings(table(rows()), record()).provenance}
    assert plain["registered"].startswith("nothing: ")


def test_looks_that_differ_from_the_log_are_told() -> None:
    own = registered()
    got = findings(table(until({})), own)
    c = got.primary[0]
    assert c.course is not None
    own["looks"] = [{"family": "primary", "n": 5, "steps": []}]
    got = findings(table(until({})), own)
    assert got.exploratory == ("the looks of the primary family differ from the log kept while it ran",)


def test_seeds_that_follow_the_verdict_give_a_plain_interval_beside_it() -> None:
    own = registered()
    own["config"]["confirm"]["overrun"] = 3
    own["registration"] = preregistration(own)
    c = next(c for c in findings(table(until({"sae_ft": 8})), own).primary if c.method == "sae_ft")
    assert c.course is not None
    assert c.paired is not None
    assert c.paired.n == 5
    assert c.course.overrun is not None
    assert c.course.overrun[0] == 8
    assert "With the seeds registered to follow, 8 in all, the t interval is +" in c.sentence


def test_failures_leave_the_verdict_among_runs_that_finish() -> None:
    got = findings(table(until({}, failed=[("sae_ft", 1001)])), registered())
    c = next(c for c in got.primary if c.method == "sae_ft")
    assert c.dropped_seeds == (1001,)
    assert "among runs that finish" in c.sentence
    assert (c.course.looks[0].pairs, c.course.looks[1].pairs) == (4, 5)


def test_a_sweep_of_a_fixed_number_of_seeds_is_open_until_they_are_complete() -> None:
    own = registered()
    own["config"]["confirm"] = {"seeds": 12, "engine": "t", "overrun": 0}
    own["registration"] = preregistration(own)
    given = until({})
    assert not findings(table(given), own).open
    early = findings(table([row for row in given if row.seed != 1011 or row.method != "mse"]), own)
    assert early.open
    assert {c.verdict for c in (*early.primary, *early.shifts)} == {"undecided"}
    assert all(c.paired is None for c in early.primary)


def test_single_sets_are_corrected_by_max_t_from_eight_seeds_on() -> None:
    few, many = (findings(table(rows(seeds=n, search=False)), record()) for n in (7, 8))
    assert {c.correction for c in few.shifts} == {"Holm"}
    # A declared method without rows would be missing from the joint flips.
    assert {c.correction for c in many.shifts} == {"max-T"}
    assert {c.correction for c in many.primary} == {"Holm"}
    assert len(many.shifts) == 5 * sum(role == "ood" for role in ROLES.values())
    gap = [dataclasses.replace(r, value=None) if (r.method, r.seed) == ("mse", 1002) else r for r in rows(seeds=8)]
    assert {c.correction for c in findings(table(gap), record()).shifts} == {"Holm"}


def test_watch_writes_again_until_the_sweep_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    own = registered(last=6)
    (folder / "trials" / "a").mkdir(parents=True)
    put_json(folder / "sweep.json", {k: v for k, v in own.items() if k != "registration"})
    put_json(folder / "registration.json", own["registration"])
    given = [r for r in until({}) if r.seed is None or r.seed < 1006]
    put_rows(folder / "trials" / "a" / "rows.parquet", [r for r in given if r.seed is None or r.seed < 1003])
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert "no verdict before the rule says so" in (folder / "report" / "report.html").read_text()
        (folder / "trials" / "b").mkdir()
        late = [r for r in given if r.seed is not None and r.seed >= 1003]
        put_rows(folder / "trials" / "b" / "rows.parquet", late)

    monkeypatch.setattr("time.sleep", sleep)
    assert main([str(folder), "--watch", "5"]) == 0
    assert slept == [5.0]
    assert "Open:" not in (folder / "report" / "report.html").read_text()
    assert "Open: no verdict" in capsys.readouterr().out


CASES = ["one failed seed", "all failed", "all equal", "baseline failed", "nothing", "one shift"]


@pytest.mark.parametrize("engine", ["t", "exact", "anytime"])
@pytest.mark.parametrize("case", CASES)
def test_check_23_edge_cases_of_looks_render_without_a_number_that_is_none(
    tmp_path: Path, case: str, engine: str
) -> None:
    own = record(margin=0.01)
    own["config"]["confirm"] = {"seeds": {"min": 3, "max": 5}, "engine": engine, "overrun": 0}
    own["confirm_seeds"] = SEEDS[:5]
    own["registration"] = preregistration(own)
    write_report(table(edge_cases()[case]), own, tmp_path)
    for path in tmp_path.iterdir():
        text = path.read_text().replace("loss is nan at step 12", "")
        shown = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", text, flags=re.DOTALL)
        assert not re.search(r"(?<!\w)[-−+]?(nan|inf|infinity)(?!\w)", shown, re.IGNORECASE), path.name
        assert not re.search(r"\bNone\b", shown), path.name


def test_the_registered_endpoint_never_shrinks_to_the_sets_that_exist() -> None:
    got = findings(table([row for row in until({}) if row.role != "ood" or row.dataset == "A"]), registered())
    assert all(c.datasets == tuple(d for d, role in ROLES.items() if role == "ood") for c in got.primary)
    assert {c.verdict for c in got.primary} == {"undecided"}


def test_declared_pairs_have_looks_of_their_own() -> None:
    own = registered(compare=[["sae_ft", "mse"]])
    assert own["registration"]["families"]["controls"] == [["sae_ft", "mse"]]
    got = findings(table(until({})), own)
    pair, question = got.controls
    assert (pair.method, pair.against) == ("sae_ft", "mse")
    assert pair.course is not None
    assert question.course is None
    text = markdown(got, {})
    assert text.count("| sae\\_ft against mse |") == len(pair.course.looks)
    assert "| mse |" in text
    assert question.correction == "looks"
