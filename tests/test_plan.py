"""Plan and protocol: what would run, what is shared, who gets which seed."""

import subprocess
import sys

import pytest

from saeft_ray.config.choose import Rule
from saeft_ray.errors import Unfinished
from saeft_ray.methods.facts import Facts
from saeft_ray.methods.sae_ft import SaeFT
from saeft_ray.orchestration.choosing import configurations, ranked
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.search import FixedQueue, SearchQueue
from saeft_ray.records.trial_spec import TrialSpec

from sweeps import config

FACTS = Facts({"arch": "a", "weights": "w"}, 28, 64, "data", "train", {"train": 1500, "selection": 100, "ID": 100}, 10)


def plan(**sections):
    return Plan(config("runs", **sections), FACTS)


def test_a_plan_needs_neither_torch_nor_ray():
    code = "import saeft_ray.orchestration.plan, sys; print([m for m in ('torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_seeds_of_the_phases_are_disjoint_and_stable():
    made = plan(confirm={"seeds": 20}, rerank={"seeds": 5})
    seeds = [seed for phase in ("search", "rerank", "confirm") for seed in made.seeds(phase)]
    assert len(set(seeds)) == 26
    assert made.seeds("confirm")[:2] == plan().seeds("confirm")
    assert plan(seed=1).seeds("confirm")[0] not in seeds


def test_shared_work_is_listed_once_and_in_order():
    artifacts = plan().artifacts()
    assert [a.kind for a in artifacts] == ["head", "activations", "dictionary", "dictionary"]
    keys = [a.key for a in artifacts]
    assert len(set(keys)) == 4
    assert all(need.key in keys[:i] for i, a in enumerate(artifacts) for need in a.needs)


def test_identity_is_what_determines_bytes_and_nothing_else():
    one = {a.kind: a.key for a in plan().artifacts()}
    same = {a.kind: a.key for a in plan(name="other", compute={"cpus": 2}, confirm={"seeds": 9}).artifacts()}
    assert one == same
    wider = {a.kind: a.key for a in plan(dictionary={"width": 64, "k": 8, "steps": 40, "seeds": 2}).artifacts()}
    assert wider["activations"] == one["activations"]
    assert wider["dictionary"] != one["dictionary"]
    moved = {a.kind: a.key for a in Plan(config("runs"), FACTS._replace(train="new")).artifacts()}
    assert moved["head"] == one["head"]
    assert moved["activations"] != one["activations"]


def test_methods_share_seeds_and_derived_ones_share_end_points():
    made = plan()
    chosen = {label: method for label, method in made.config.methods.items() if not method.open_values()}
    chosen |= {"wise_ft": made.alternatives("wise_ft")[0], "sae_ft": SaeFT(lambda_add=1.0)}
    specs = made.confirm(chosen)
    by = {label: [s.seed for s in specs if s.method == label] for label in chosen}
    assert by["ft"] == by["sae_ft"] == by["wise_ft"] == made.seeds("confirm")
    assert by["zero_shot"] == [None]
    ends = {(s.method, s.seed): made.final_weights(s).key for s in specs if s.trained}
    assert all(ends["ft", seed] == ends["wise_ft", seed] != ends["sae_ft", seed] for seed in by["ft"])
    assert len({s.id for s in specs}) == len(specs)


def test_every_confirm_seed_reads_a_dictionary_of_its_own():
    made = plan()
    specs = [s for s in made.confirm({"sae_ft": SaeFT(lambda_add=1.0)}) if s.method == "sae_ft"]
    read = [next(a.key for a in made.needs(s) if a.kind == "dictionary") for s in specs]
    assert read == [made.dictionary("trained", 0).key, made.dictionary("trained", 1).key]


def test_each_control_lists_the_artifacts_that_it_is_made_of():
    def listed(**method):
        settings = {"lambda_add": 1, "lambda_resid": 1, **method}
        made = plan(methods={"ft": {}, "sae_ft": settings}, dictionary={"seeds": 2})
        return [(a.identity["kind"], a.identity["seed"]) for a in made.artifacts() if a.kind == "dictionary"]

    trained = listed()
    assert [kind for kind, _ in trained] == ["trained"] * 2
    assert trained == listed(dictionary="trained")
    assert [kind for kind, _ in listed(dictionary="random")] == ["random"] * 2
    assert [seed for _, seed in listed(dictionary="untrained")] == [seed for _, seed in trained]
    assert [kind for kind, _ in listed(dictionary="permuted")] == ["trained", "permuted"] * 2
    assert listed(dictionary="pca") == [("pca", None)]  # there is nothing to draw


def test_a_trial_reads_the_one_dictionary_that_its_method_names():
    made = plan(methods={"ft": {}, "permuted": {"type": "sae_ft", "lambda_resid": 1, "dictionary": "permuted"}})
    (spec,) = [s for s in made.confirm(made.config.methods) if s.method == "permuted" and s.number == 1]
    (read,) = [a for a in made.needs(spec) if a.kind == "dictionary"]
    assert read == made.dictionary("permuted", 1)
    assert read.needs[1] == made.dictionary("trained", 1)


def test_a_control_depends_on_nothing_that_it_does_not_use():
    short, long = (plan(dictionary={"steps": steps}) for steps in (10, 20))
    for kind in ("random", "untrained", "pca"):
        assert short.dictionary(kind, 0).key == long.dictionary(kind, 0).key
    for kind in ("trained", "permuted"):
        assert short.dictionary(kind, 0).key != long.dictionary(kind, 0).key
    plain = plan(dictionary={"recipe": "reference", "activation": "relu_topk"})
    assert plain.dictionary("untrained", 0).key != plan(dictionary={"width": 2048}).dictionary("untrained", 0).key
    assert plain.dictionary("random", 0).key == plan(dictionary={"width": 2048}).dictionary("random", 0).key


def test_a_pool_too_large_to_store_falls_back_to_the_frozen_encoder():
    made = plan(train={"epochs": 4, "lr": 1e-3, "cache_gb": 0.001})
    assert not made.cached
    assert made.pool == 2  # of 1500 x 64 x 4 bytes each
    assert plan().cached


def test_counts_are_what_is_dealt():
    counts = plan().counts()
    assert counts == {"search": 3, "rerank": 2 + 2, "confirm": 1 + 3 * 2}
    assert dict(plan().trainings()) == {"search": 3, "rerank": 3, "confirm": 4}


METHODS = {"ft": {}, "mse": {"lambda_mse": {"low": 1, "high": 9}}, "sae_ft": {"lambda_add": {"low": 1, "high": 9}}}


def value(spec):
    """A made-up result that falls with the distance from 3."""
    name = next(name for name, v in spec.settings if name.startswith("lambda") and v)
    return 1 - abs(getattr(spec.settings, name) - 3) / 1e4


def play(queue, results=None):
    specs = []
    while queue.remaining:
        spec = queue.ask()
        queue.tell(spec, value(spec))
        specs.append(spec)
        if results is not None:
            results[spec.id] = value(spec)
    return specs


def test_budgets_are_equal_and_dealt_in_turn():
    specs = play(SearchQueue(plan(methods=METHODS, search={"trials": 6})))
    assert [s.method for s in specs] == ["mse", "sae_ft"] * 6
    assert {s.seed for s in specs} == set(plan().seeds("search"))
    assert all(1 <= s.settings.lambda_mse <= 9 for s in specs if s.method == "mse")


def test_a_search_begun_again_suggests_what_it_would_have():
    made = plan(methods=METHODS, search={"trials": 9})
    undisturbed = play(SearchQueue(made))
    for stop in (1, 7, 12):
        results = {s.id: value(s) for s in undisturbed[:stop]}
        again = SearchQueue(made, undisturbed[:stop], results)
        assert again.remaining == 18 - stop
        assert play(again) == undisturbed[stop:]


def test_suggestions_that_were_lost_with_their_results_are_made_again_from_what_was_known_then():
    made = plan(methods=METHODS, search={"trials": 9})
    undisturbed = play(SearchQueue(made))
    lost = [s for s in undisturbed if (s.method, s.number) in {("mse", 6), ("mse", 7), ("sae_ft", 0), ("sae_ft", 8)}]
    kept = [s for s in undisturbed if s not in lost]
    again = SearchQueue(made, kept, {s.id: value(s) for s in kept})
    assert again.remaining == 4
    assert sorted(play(again), key=str) == sorted(lost, key=str)


def test_trials_that_were_running_are_dealt_again_first():
    made = plan(methods=METHODS, search={"trials": 4})
    queue = SearchQueue(made)
    asked = [queue.ask() for _ in range(4)]
    again = SearchQueue(made, asked, {asked[0].id: 0.5, asked[3].id: None})
    assert [again.ask(), again.ask()] == asked[1:3]
    assert again.remaining == 4


def test_a_failed_trial_is_told_and_never_chosen():
    made = plan(methods=METHODS, search={"trials": 4})
    queue, results = SearchQueue(made), {}
    specs = []
    while queue.remaining:
        spec = queue.ask()
        results[spec.id] = None if spec.number == 0 else value(spec)
        queue.tell(spec, results[spec.id])
        specs.append(spec)
    for given in configurations(specs, {name: {"accuracy": found} for name, found in results.items()}).values():
        order = ranked(Rule(), given, 100)
        known = {id(each.settings): each.score for each in given}
        scores = [known[id(settings)] for settings in order]
        assert scores[-1] is None
        assert scores[:-1] == sorted(scores[:-1], reverse=True)


def test_what_has_no_results_is_not_ranked():
    made = plan(methods=METHODS, search={"trials": 4})
    queue, specs = SearchQueue(made), []
    while queue.remaining:
        specs.append(queue.ask())
        queue.tell(specs[-1], 0.5)
    with pytest.raises(Unfinished, match="none of its 4 configurations has results"):
        configurations(specs, {})
    known = {spec.method: spec for spec in reversed(specs)}  # the first of each
    measured = {spec.id: {"accuracy": 0.1} for spec in known.values()}
    for label, (only,) in configurations(specs, measured).items():
        assert only[:3] == (known[label].settings, 0.1, None)


def test_a_derived_trial_waits_for_its_base():
    made = plan()
    chosen = dict(made.config.methods) | {"wise_ft": made.alternatives("wise_ft")[0], "sae_ft": SaeFT(lambda_add=1.0)}
    specs = made.confirm(chosen)
    queue = FixedQueue("confirm", specs)
    handed: list[TrialSpec] = []
    while (spec := queue.ask()) is not None:
        handed.append(spec)
    assert {s.method for s in handed} == {"zero_shot", "ft", "sae_ft"}
    assert queue.remaining == 2
    bases = [s for s in handed if s.method == "ft"]
    queue.tell(bases[1], 0.9)
    waited = queue.ask()
    assert (waited.method, waited.seed) == ("wise_ft", bases[1].seed)
    assert queue.ask() is None
    queue.tell(bases[0], None)
    assert queue.ask().seed == bases[0].seed
    assert queue.remaining == 0
    assert FixedQueue("confirm", specs, [s.id for s in specs]).remaining == 0


def test_a_rerank_of_alternatives_trains_each_base_once_at_a_time():
    made = plan()
    specs = made.rerank({"wise_ft": made.alternatives("wise_ft")}, dict(made.config.methods))
    queue = FixedQueue("rerank", specs)
    first = queue.ask()
    assert queue.ask() is None  # the second alternative starts from the same end point
    queue.tell(first, 0.5)
    assert queue.ask() is not None


@pytest.mark.parametrize("trials", [1, 2])
def test_a_tiny_search_works(trials):
    specs = play(SearchQueue(plan(search={"trials": trials})))
    assert len(specs) == trials
    assert len(plan(search={"trials": trials}).rerank({"sae_ft": [s.settings for s in specs]}, {})) == trials
