"""Two sweeps made into one: what is pooled, what is refused and in which words, and that both stay as they were."""

import hashlib
import random
from dataclasses import replace
from functools import cache

import pytest

from saeft_ray.errors import UserError
from saeft_ray.housekeeping.garbage import garbage
from saeft_ray.housekeeping.merging import merged
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.reopen import record_of, reopen
from saeft_ray.records.lease import Lease
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.read import read_record, read_rows
from saeft_ray.report import report_sweep
from saeft_ray.report.build import findings
from saeft_ray.report.render.markdown import render
from saeft_ray.status import main as status
from saeft_ray.storage.__main__ import main
from saeft_ray.storage.checksum import to_json
from saeft_ray.storage.store import Store

import sweeps

FT, MSE, L1 = {"ft": {}}, {"mse": {"lambda_mse": 300}}, {"l1": {"lambda_l1": 3}}
FIVE = {"seeds": 5}


@cache
def facts():
    return find_facts(sweeps.config("."))


class MadeUp:
    """A runner whose trials end at once, with scores that follow from their names, and leave weights."""

    def __init__(self, plan, store, ledger, luck=""):
        self.plan, self.store, self.ledger, self.luck = plan, store, ledger, luck

    def build(self, artifacts, watcher):
        for one in artifacts:
            self.put(one)

    def put(self, one):
        self.store.ensure(one.kind, one.key, lambda to: (to / "a.bin").write_text(one.key), one.identity)

    def run(self, queue, watcher):
        while queue.remaining and (spec := queue.ask()):
            self.ledger.begin_trial(spec)
            draw = random.Random(spec.id + self.luck)
            tests = self.plan.config.data.test_sets() if spec.phase == "confirm" else {}
            rows = [
                spec.row(self.plan.config.name, name, role, "accuracy", draw.uniform(0.5, 0.6), n=100, examples="same")
                for name, role in {"selection": "selection", **tests}.items()
            ]
            rows.append(spec.row(self.plan.config.name, "train", "train", "seconds", random.random()))
            self.ledger.finish(spec, rows)
            if spec.trained:
                self.put(self.plan.final_weights(spec))
            queue.tell(spec, rows[0].value)


def made(store, name, luck="", **sections):
    """A sweep `name` in `store` that looks as if it had run."""
    config = sweeps.config(store.url, **{"name": name, "methods": {**FT, **MSE}, "confirm": FIVE, **sections})
    plan, ledger = Plan(config, facts()), Ledger(store, name, 1)
    ledger.register(record_of(plan, None))
    run_phases(plan, ledger, MadeUp(plan, store, ledger, luck), Quiet())
    return plan, ledger


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "runs"))


def contents(store, *names):
    """Every file of these sweeps, by its bytes."""
    paths = [path for name in names for path in store.list(f"sweeps/{name}")]
    return {path: hashlib.sha256(data).hexdigest() for path, data in store.read_many(paths).items()}


def test_methods_are_united_and_both_stay_as_they_were(store, capsys):
    made(store, "one", report={"margin": 0.003, "compare": [["mse", "ft"]]})
    made(store, "two", methods={**FT, **L1}, report={"margin": 0.003, "compare": [["l1", "ft"]]})
    before = contents(store, "one", "two")
    assert main([store.url, "merge", "one", "two", "--into", "both"]) == 0
    assert contents(store, "one", "two") == before
    said = capsys.readouterr().out
    assert (
        f"{store.url}/sweeps/both: holds 15 trials, 5 of which both sweeps had. Both sweeps are as they were." in said
    )
    record, rows = read_record(f"{store.url}/sweeps/both"), read_rows(f"{store.url}/sweeps/both")
    assert [each["sweep"] for each in record["merged"]["of"]] == ["one", "two"]
    assert all(each["registered"] and each["storage"] == store.url for each in record["merged"]["of"])
    assert record["created"].startswith("20")
    assert "registration" not in record
    assert record["config"]["report"]["compare"] == [["mse", "ft"], ["l1", "ft"]]
    assert {*zip(rows["method"].to_pylist(), rows["sweep"].to_pylist(), strict=True)} == {
        ("ft", "one"), ("mse", "one"), ("l1", "two"),
    }  # fmt: skip
    report = findings(rows, record)
    assert {(c.method, c.paired.n, c.family_size) for c in report.primary} == {("mse", 5, 2), ("l1", 5, 2)}


def test_its_report_calls_itself_exploratory_and_says_what_it_is_made_of(store, capsys, no_figures_for_papers):
    made(store, "one")
    made(store, "two", methods={**FT, **L1}, confirm={"seeds": {"min": 4, "max": 5}})
    merged(store, "one", "two", "both")
    written = report_sweep(f"{store.url}/sweeps/both")
    assert written.complete
    assert written.report.headline.startswith("Exploratory, not as registered. ")
    made_of, stopped = written.report.exploratory
    assert made_of.startswith("this is a merge of one and two, made at 20")
    assert "Its tests are a family of their own, corrected over its own comparisons" in made_of
    assert stopped.startswith("seeds of two came until results were decided")
    page = render(written.report, {})
    assert "Exploratory: this is a merge of one and two" in page
    assert "nothing: what is tested was not fixed in a record before these runs" in page
    origin = {fact.name: fact.value for fact in written.report.provenance}["merged"]
    assert f"two of {store.url}, begun 20" in origin
    assert "10 trials, with a registration" in origin
    assert main([store.url, "ls"]) == 0
    assert "a merge of one and two, made at 20" in capsys.readouterr().out
    assert status([f"{store.url}/sweeps/both"]) == 0
    assert "/sweeps/both: done, " in capsys.readouterr().out


def test_seeds_of_shared_configurations_are_pooled(store):
    one, _ = made(store, "one")
    two, _ = made(store, "two", confirm={**FIVE, "draw": 1})
    merged(store, "one", "two", "both")
    record = read_record(f"{store.url}/sweeps/both")
    assert record["confirm_seeds"] == [*one.seeds("confirm"), *two.seeds("confirm")]
    report = findings(read_rows(f"{store.url}/sweeps/both"), record)
    (mse,) = report.primary
    assert mse.paired.n == 10
    assert not mse.dropped_seeds
    plan, ledger, _ = reopen(f"{store.url}/sweeps/both")
    assert len(ledger.asked("confirm")) == 20
    assert all(store.has("endpoint", plan.final_weights(spec).key) for spec in ledger.asked("confirm"))


def test_nothing_that_a_merge_names_goes_with_what_it_was_made_of(store):
    made(store, "one")
    made(store, "two", confirm={**FIVE, "draw": 1})
    merged(store, "one", "two", "both")
    weights = set(store.keys("endpoint"))
    for name in ("one", "two"):
        assert main([store.url, "rm", name, "--yes"]) == 0
    assert set(store.keys("endpoint")) == weights
    assert garbage(store).items == ()
    assert (
        len(findings(read_rows(f"{store.url}/sweeps/both"), read_record(f"{store.url}/sweeps/both")).confirm_seeds)
        == 10
    )


def test_artifacts_of_another_storage_are_copied_by_their_keys(store, s3_url, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "cache"))
    away = Store(f"{s3_url}/runs")
    made(store, "one")
    made(away, "one", methods={**FT, **L1})
    before = contents(away, "one")
    assert main([store.url, "merge", "one", f"{away.url}/sweeps/one", "--into", "both"]) == 0
    assert "artifacts were copied" in capsys.readouterr().out
    assert contents(away, "one") == before
    assert {*away.keys("endpoint")} <= {*store.keys("endpoint")}
    for key in away.keys("endpoint"):
        assert (store.get("endpoint", key) / "a.bin").read_text() == key
        assert store.manifest("endpoint", key).describe == away.manifest("endpoint", key).describe
    assert [each["storage"] for each in read_record(f"{store.url}/sweeps/both")["merged"]["of"]] == [
        store.url,
        away.url,
    ]


def test_every_difference_is_named(store):
    made(store, "one", report={"margin": 0.003})
    made(store, "two", train={**sweeps.SMALL["train"], "lr": 0.01}, seed=1, methods={**FT, "mse": {"lambda_mse": 30}})
    record = read_record(f"{store.url}/sweeps/two")
    record["model"] = {"weights": "another"}
    record["data"]["tests"] = {**record["data"]["tests"], "ID": "other images"}
    store.write(
        "sweeps/two/sweep.json", to_json({k: v for k, v in record.items() if k not in ("suggestions", "looks")})
    )
    with pytest.raises(UserError) as error:
        merged(store, "one", "two", "both")
    said = str(error.value)
    assert said.startswith("one and two cannot be one sweep, for they differ:\n")
    for words in (
        "  train.lr: 0.001 in one, 0.01 in two\n",
        "  seed: 0 in one, 1 in two\n",
        "  report.margin: 0.003 in one, None in two\n",
        "  model.weights: ",
        "  data.tests.ID: ",
        "  methods.mse.lambda_mse: 300 in one, 30 in two\n",
    ):
        assert words in said
    assert not store.list("sweeps/both")


def test_a_trial_that_came_out_differently_is_named(store):
    _, ledger = made(store, "one")
    made(store, "two", luck="other machine", methods={**FT, **L1})
    with pytest.raises(UserError, match=r"cannot be one sweep: confirm-ft-\w+, .* came out differently in the two"):
        merged(store, "one", "two", "both")
    assert not store.list("sweeps/both")
    assert len(ledger.finished()) == 10


def test_a_method_whose_searches_chose_differently_is_named(store, tmp_path):
    """In one storage the second would take over what the first has searched."""
    searched = {**FT, "mse": {"lambda_mse": {"low": 30, "high": 3000}}}
    away = Store(str(tmp_path / "away"))
    made(store, "one", methods=searched)
    made(away, "two", methods=searched, luck="other", confirm={**FIVE, "draw": 1})
    with pytest.raises(
        UserError, match=r"methods.mse, as its search chose it.lambda_mse: [\d.]+ in one, [\d.]+ in two"
    ):
        merged(store, "one", f"{away.url}/sweeps/two", "both")


def test_what_is_there_is_never_written_over(store):
    made(store, "one")
    made(store, "two", methods={**FT, **L1})
    before = contents(store, "one", "two")
    with pytest.raises(UserError, match="sweeps/two: exists already; give a name that no sweep has"):
        merged(store, "one", "two", "two")
    store.write("sweeps/left/trials/confirm-ft-1/rows.parquet", b"of a merge that was ended")
    with pytest.raises(UserError, match=r"remove it first: python -m saeft_ray.storage .* rm left"):
        merged(store, "one", "two", "left")
    with pytest.raises(UserError, match="cannot be the name of a sweep"):
        merged(store, "one", "two", "../two")
    with pytest.raises(UserError, match="was given twice"):
        merged(store, "one", f"{store.url}/sweeps/one", "both")
    with pytest.raises(UserError, match="no sweep at"):
        merged(store, "one", "three", "both")
    assert contents(store, "one", "two") == before


def test_a_sweep_that_runs_or_has_confirmed_nothing_waits(store):
    made(store, "one")
    made(store, "two", methods={**FT, **L1})
    with Lease(store, "sweeps/two", beat=0.1), pytest.raises(UserError, match=r"runs this sweep since .*; wait for it"):
        merged(store, "one", "two", "both")
    config = sweeps.config(store.url, name="begun")
    Ledger(store, "begun").register(record_of(Plan(config, facts()), None))
    with pytest.raises(UserError, match="no trial of its confirm phase has ended"):
        merged(store, "one", "begun", "both")


def test_a_merge_does_not_run(store):
    plan, _ = made(store, "one")
    made(store, "two", methods={**FT, **L1})
    merged(store, "one", "two", "both")
    record = record_of(Plan(plan.config.model_copy(update={"name": "both"}), facts()), None)
    with pytest.raises(UserError, match=r"sweeps/both: is a merge of one and two, .* and does not run"):
        Ledger(store, "both").register(record)


def test_a_merge_may_be_merged_again(store):
    made(store, "one")
    made(store, "two", methods={**FT, **L1})
    made(store, "three", confirm={**FIVE, "draw": 1})
    merged(store, "one", "two", "both")
    merged(store, "both", "three", "all")
    record = read_record(f"{store.url}/sweeps/all")
    assert record["merged"]["of"][0]["merged"]["of"][0]["sweep"] == "one"
    report = findings(read_rows(f"{store.url}/sweeps/all"), record)
    assert {c.method: c.paired.n for c in report.primary} == {"mse": 10, "l1": 5}


def test_a_stopped_run_stays_missing_in_a_merge(store):
    plan, ledger = made(store, "one")
    trial = next(spec for spec in plan.confirm(plan.config.methods) if spec.method == "mse")
    rows = [replace(r, value=None, status="stopped", error="stopped on purpose: asked") for r in ledger.rows(trial.id)]
    store.delete(f"sweeps/one/trials/{trial.id}/rows.parquet")
    ledger.finish(trial, [row for row in rows if row.metric != "seconds"])
    made(store, "two", methods={**FT, **L1})
    merged(store, "one", "two", "both")
    report = findings(read_rows(f"{store.url}/sweeps/both"), read_record(f"{store.url}/sweeps/both"))
    assert [(f.method, [seed for seed, _ in f.stopped]) for f in report.failures if f.stopped] == [
        ("mse", [trial.seed])
    ]
