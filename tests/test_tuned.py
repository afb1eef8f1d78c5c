"""Error bars of the tuning: confirm seeds dealt over tied configurations, or over repeats of the search."""

import json
from collections import Counter
from pathlib import Path

import folders
import pyarrow.compute as pc
import pytest
import yaml
from test_search import outcome, plan

from saeft_ray.config.choose import Rule
from saeft_ray.config.sweep_file import parse
from saeft_ray.errors import UserError
from saeft_ray.methods.embeddings import MSE
from saeft_ray.orchestration.choosing import Configuration, chosen_of
from saeft_ray.orchestration.phases import candidates
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.orchestration.search import SearchQueue
from saeft_ray.records.amendments import Seen, growth
from saeft_ray.records.read import read_record, read_rows
from saeft_ray.report import report_sweep
from saeft_ray.report.build import findings
from saeft_ray.report.scores import Trials
from saeft_ray.stats import TunedDifference, tuned_difference

import sweeps

METHODS = {"ft": {}, "mse": {"lambda_mse": {"low": 1, "high": 1000}}, "half": {"type": "wise_ft", "of": "mse"}}
SMALL = {"rerank": {"top": 3, "seeds": 2}, "methods": METHODS, "features": "off"}
SEEDS = 5


def ran(folder, **more):
    """The folder of a sweep of three methods that has ended."""
    small = folders.sections(folders.images_in(folder))
    confirm = {"seeds": SEEDS, **more.pop("confirm", {})}
    config = sweeps.config(folder / "runs", **small, **SMALL, confirm=confirm, **more)
    sweeps.run_here(config)
    return config, f"{folder}/runs/sweeps/small"


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("tied"), search={"trials": 4}, confirm={"choices": "tied"})


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("repeated"), search={"trials": 3, "repeats": 2})


def confirmed(folder, method):
    """The settings of `method` in confirm in the order of its seeds."""
    found = {row["seed"]: row["settings"] for row in read_rows(folder).to_pylist()
             if row["phase"] == "confirm" and row["method"] == method}  # fmt: skip
    return [json.loads(found[seed]) for seed in read_record(folder)["confirm_seeds"]]


def test_tied_configurations_take_turns_over_the_seeds(tied):
    _, folder = tied
    used = [settings["lambda_mse"] for settings in confirmed(folder, "mse")]
    kinds = list(dict.fromkeys(used))
    assert 1 < len(kinds) <= 3
    assert used == [kinds[i % len(kinds)] for i in range(SEEDS)]
    scores = {}
    for row in read_rows(folder).to_pylist():
        if row["phase"] == "rerank" and row["method"] == "mse" and row["metric"] == "accuracy":
            scores.setdefault(json.loads(row["settings"])["lambda_mse"], []).append(row["value"])
    assert sum(scores[kinds[0]]) == max(map(sum, scores.values()))


def test_a_derived_method_starts_from_what_its_base_used_with_the_seed(tied):
    _, folder = tied
    bases = [settings["base"]["lambda_mse"] for settings in confirmed(folder, "half")]
    assert bases == [settings["lambda_mse"] for settings in confirmed(folder, "mse")]


def test_the_report_speaks_of_the_method_as_tuned(tied):
    _, folder = tied
    report = report_sweep(folder).report
    (mse,) = [c for c in report.primary if c.method == "mse"]
    assert isinstance(mse.paired, TunedDifference)
    kinds = len({s["lambda_mse"] for s in confirmed(folder, "mse")})
    assert mse.tuned.choices == {"mse": kinds}
    assert mse.tuned.chosen.n == -(-SEEDS // kinds)
    assert f"the seeds were dealt over {kinds} configurations of mse." in mse.sentence
    assert " With the chosen ones alone it is " in mse.sentence
    labels = [i % kinds for i in range(SEEDS)]
    order = read_record(folder)["confirm_seeds"]
    points = sorted(mse.points, key=lambda point: order.index(point.seed))
    by_hand = tuned_difference([p.method for p in points], [p.against for p in points], labels, None)
    assert (mse.paired.lo, mse.paired.hi, mse.paired.p) == pytest.approx((by_hand.lo, by_hand.hi, by_hand.p))
    page = Path(folder, "report", "report.html").read_text()
    assert "mse: the runner-up (lambda_mse" in page
    assert "Claims are about methods as tuned where several configurations share the seeds" in page


def test_a_sweep_that_has_ended_has_nothing_left_to_do(tied):
    config, folder = tied
    before = read_rows(folder)
    sweeps.run_here(config)
    assert read_rows(folder).equals(before)
    plan_, ledger, _ = reopen(folder)
    wanted = {spec.id for spec in plan_.confirm(ledger.chosen(), ledger.others(ledger.chosen()))}
    assert wanted == {trial for trial in ledger.finished() if trial.startswith("confirm-")}


def test_each_repeat_of_a_search_chooses_and_the_seeds_take_turns(repeated):
    _, folder = repeated
    counted = Counter(row["trial"].split("-")[0] for row in read_rows(folder).to_pylist() if row["metric"] == "seconds")
    assert counted["search"] == 6
    plan_, ledger, _ = reopen(folder)
    first, second = candidates(plan_, ledger)
    used = [MSE(**{**s, "type": "mse"}) for s in confirmed(folder, "mse")]
    assert set(used[::2]) <= set(first["mse"])
    assert set(used[1::2]) <= set(second["mse"])
    assert len(set(used[::2])) == len(set(used[1::2])) == 1


def test_the_report_tells_the_choice_of_each_repeat(repeated):
    _, folder = repeated
    report = report_sweep(folder).report
    assert [each.method for each in report.choices] == ["mse, search 1 of 2", "mse, search 2 of 2"]
    assert all(each.configurations == 3 for each in report.choices)
    (mse,) = [c for c in report.primary if c.method == "mse"]
    assert mse.tuned.choices == {"mse": 2}
    assert "the seeds were dealt over 2 searches of mse." in mse.sentence


def test_searches_that_chose_the_same_are_still_two():
    trials = Trials(
        method="mse", order=(5, 3, 4), searches=2, seeds={3, 4, 5}, configurations=dict.fromkeys((3, 4, 5), "a")
    )
    assert trials.choices == 2
    assert [trials.choice(seed) for seed in (5, 3, 4)] == [0, 1, 0]


def test_an_open_sweep_tells_nothing_of_its_choices(tied):
    _, folder = tied
    rows, record = read_rows(folder), read_record(folder)
    last = record["confirm_seeds"][-1]
    part = rows.filter(pc.or_kleene(pc.not_equal(rows["phase"], "confirm"), pc.not_equal(rows["seed"], last)))
    found = findings(part, record)
    assert found.open
    assert all(c.tuned is None and "alone" not in c.sentence for c in found.primary)


def test_more_seeds_of_dealt_ones_are_refused_once_they_are_registered(tied):
    _, folder = tied
    known = read_record(folder)
    settings = known["config"]
    more = {**known, "config": {**settings, "confirm": {**settings["confirm"], "seeds": SEEDS + 2}}}
    (refused,) = growth(known, more, settings, Seen({"confirm": 1}, 0, True)).refused
    assert "seeds were dealt over several configurations" in refused
    assert not growth(known, more, settings, Seen({}, 0, False)).refused


def test_repeats_are_studies_of_their_own_and_grow_alike():
    def play(**search):
        queue, found = SearchQueue(plan(**search)), {}
        while queue.remaining:
            spec = queue.ask()
            found[spec.method, spec.number] = spec
            queue.tell(spec, *outcome(spec))
        return found

    two, larger = play(repeats=2, trials=4), play(repeats=2, trials=6)
    assert len(two) == 2 * 2 * 4  # two methods
    assert len({(number % 2, spec.seed) for (_, number), spec in two.items()}) == 2
    assert two.items() <= larger.items()
    assert len({spec.settings.model_dump_json() for spec in two.values()}) == len(two)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"confirm": {"seeds": {"min": 3, "max": 6}, "choices": "tied"}}, "confirm.choices = tied deals the seeds"),
        ({"confirm": {"seeds": {"min": 3, "max": 6}}, "search": {"repeats": 2}}, "search.repeats = 2 deals the seeds"),
        ({"confirm": {"choices": "tied"}, "search": {"repeats": 2}}, "both say over what the seeds"),
        ({"confirm": {"seeds": 2}, "search": {"repeats": 3}}, "give at least as many seeds as repeats"),
        ({"search": {"repeats": 0}}, "search.repeats"),
        ({"confirm": {"choices": "all"}}, "confirm.choices"),
    ],
)
def test_what_cannot_be_dealt_is_refused_in_words(more, said):
    with pytest.raises(UserError, match=said):
        parse(yaml.safe_dump({**sweeps.SMALL, **more}))


def test_what_is_tied_with_the_chosen_one_may_be_better_or_worse():
    given = [
        Configuration(MSE(lambda_mse=1.0), 0.93, 0.2, (0.92, 0.94)),
        Configuration(MSE(lambda_mse=10.0), 0.92, 0.1, (0.93, 0.91)),
        Configuration(MSE(lambda_mse=100.0), 0.80, 0.01, (0.80, 0.80)),
        Configuration(MSE(lambda_mse=50.0), None, None, (None, 0.93)),
    ]
    strongest = Rule(rule="strongest_within")
    assert [m.lambda_mse for m in chosen_of(strongest, given, 1000, with_tied=True)] == [10, 1]
    assert [m.lambda_mse for m in chosen_of(strongest, given, 1000)] == [10]
    failed = [given[3]]
    assert chosen_of(Rule(), failed, 1000, with_tied=True) == [given[3].settings]
