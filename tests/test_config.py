"""A mistake in a sweep file is told before anything runs: all at once, each with its place and what is allowed."""

import pytest
import yaml

from saeft_ray.config.schema import SweepConfig
from saeft_ray.config.sweep_file import parse
from saeft_ray.config.yaml_loader import Loader
from saeft_ray.settings import Choices, Range

from sweeps import SMALL


def mistakes(**sections):
    with pytest.raises(ValueError, match="mistake") as caught:
        parse(yaml.safe_dump({**SMALL, **sections}), "a.yaml")
    return str(caught.value)


def test_all_mistakes_come_at_once_with_their_places():
    told = mistakes(
        sed=3,
        train={"epochs": 0, "lr": "fast"},
        methods={"foo": {}, "sae_ft": {"lambda_ad": 3}, "mse": {"lambda_mse": {"low": 9, "high": 1}}},
        dictionary={"width": 4, "k": 8},
    )
    for place in (
        "train.epochs: found 0",
        "train.lr: found 'fast'",
        "sed: unknown key 'sed', did you mean 'seed'?; allowed: name",
        "methods.foo: unknown type 'foo'; allowed: ",
        "methods.sae_ft.lambda_ad: unknown key 'lambda_ad', did you mean 'lambda_add'?",
        "methods.mse.lambda_mse: low = 9 is not below high = 1",
        "dictionary.k: k = 8 atoms",
    ):
        assert place in told
    assert told.startswith("a.yaml: 7 mistakes")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"methods": {"sae_ft": {}}, "report": {"baseline": "sae_ft"}}, "can never act"),
        ({"methods": {"ft": {}, "mse": {"lambda_mse": 0}}}, "methods.mse: lambda_mse is 0"),
        ({"methods": {"ft": {}, "wise_ft": {"of": "nothing"}}}, "methods.wise_ft.of: 'nothing' is not a method"),
        ({"methods": {"ft": {}, "wise_ft": {"alpha": 2}}}, "alpha is a share"),
        ({"methods": {"ft": {}, "wise_ft": {"alpha": {"low": 0.1, "high": 1}}}}, "list of choices"),
        ({"methods": {"ft": {"lambda_add": 3}}}, "methods.ft.lambda_add: unknown key"),
        ({"methods": {}}, "methods: found {}"),
        ({"methods": {"ft": 3}}, "methods.ft: found 3"),
        ({"report": {"baseline": "fft"}}, "report.baseline: unknown method 'fft', did you mean 'ft'?"),
        ({"report": {"compare": [["ft", "ft"]]}}, "report.compare.0: 'ft' is compared with itself"),
        ({"compute": {"workers": 3}}, "compute.workers: 3 workers cannot share"),
        (
            {"methods": {"ft": {}, "nuclear": {"lambda_nuclear": 1}}, "compute": {"workers": 2}},
            "methods.nuclear: its loss is not a mean over the batch, so compute.workers = 2 would change it",
        ),
        (
            {"methods": {"ft": {}, "sae_kl": {"lambda_kl": 0}}},
            "methods.sae_kl: lambda_l1, lambda_resid and lambda_kl are all 0",
        ),
        (
            {"methods": {"ft": {}, "lp_ft": {"lambda_decay": {"choices": [0, 1]}}}},
            "methods.lp_ft: lambda_decay can be 0",
        ),
        (
            {"methods": {"ft": {}, "sae_ft": {"preset": "paper"}}},
            "methods.sae_ft.preset: found dictionary.input unit and dictionary.activation relu_topk",
        ),
        (
            {"methods": {"ft": {}, "sae_ft": {"preset": "paper", "lambda_add": 3}}},
            "methods.sae_ft: preset: paper sets lambda_add itself",
        ),
        ({"name": "../../etc"}, "name: found '../../etc'"),
        ({"data": {"type": "imagenett"}}, "data: unknown type 'imagenett'"),
        ({"train": {"epochs": 1, "lr": float("nan")}}, "train.lr"),
        ({"seed": True}, "seed: found True"),
        ({"dictionary": {"form": "a.pt", "k": 8}}, "dictionary.form: unknown key 'form', did you mean 'from'?"),
        ({"dictionary": {"from": "a.pt"}}, "dictionary: k is missing"),
        ({"dictionary": {"recipe": "plain"}}, "dictionary.recipe: found 'plain'; input should be 'corrected' or"),
        (
            {"methods": {"ft": {}, "sae_ft": {"lambda_add": 1, "dictionary": "radom"}}},
            "methods.sae_ft.dictionary: found",
        ),
        (
            {"methods": {"ft": {}, "random_dictionary": {"lambda_add": 1, "dictionary": "pca"}}},
            "unknown key 'dictionary'",
        ),
        ({"methods": {"ft": {}, "A b": {"type": "ft"}}}, "methods"),
    ],
)
def test_each_mistake_has_words(sections, words):
    assert words in mistakes(**sections)


def test_broken_yaml_is_told_by_line_and_column():
    with pytest.raises(ValueError, match=r"a\.yaml: line 2, column \d+: .*not valid YAML"):
        parse("name: x\n  train: [1,\n", "a.yaml")


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "just words"])
def test_a_sweep_file_is_a_map(text):
    with pytest.raises(ValueError, match="a map of sections"):
        parse(text)


def test_a_key_given_twice_is_an_error():
    with pytest.raises(ValueError, match="'seed' is given twice"):
        parse("seed: 1\nname: x\nseed: 2\n")


def test_settings_may_be_taken_over_and_changed():
    text = yaml.safe_dump({**SMALL, "methods": {}}).replace(
        "methods: {}",
        "methods:\n  ft:\n  sae_ft: &a {lambda_add: 1, lambda_resid: 2}\n  b: {<<: *a, type: sae_ft, lambda_resid: 0}",
    )
    method = parse(text).methods["b"]
    assert (method.lambda_add, method.lambda_resid) == (1, 0)


def test_yaml_reads_numbers_as_people_write_them():
    config = parse(yaml.safe_dump(SMALL).replace("lr: 0.001", "lr: 1e-3"))
    assert config.train.lr == 1e-3
    with pytest.raises(ValueError, match="remove the quotes"):
        parse(yaml.safe_dump(SMALL).replace("lr: 0.001", "lr: '0.001'"))


@pytest.mark.parametrize("written", ["010", "1:30", "0x10", "1_000", "0b11", "0o17"])
def test_no_number_of_yaml_is_another_than_it_looks(written):
    text = yaml.safe_dump(SMALL).replace("epochs: 1", f"epochs: {written}")
    assert written in text
    with pytest.raises(ValueError, match=f"train.epochs: found '{written}'"):
        parse(text)


def test_numbers_and_dates_that_are_names_stay_words():
    assert yaml.load("{name: 2026-01-01, classes: {00: 010, 7: seven}}", Loader) == {
        "name": "2026-01-01",
        "classes": {"00": "010", 7: "seven"},
    }


def test_yaml_runs_no_code():
    with pytest.raises(ValueError, match="not valid YAML"):
        parse("name: !!python/object/apply:os.system ['true']")


def test_forms_of_open_values():
    config = parse(
        yaml.safe_dump(
            {
                **SMALL,
                "methods": {
                    "ft": None,
                    "sae_ft": {
                        "lambda_resid": 1,
                        "lambda_add": {"low": 1, "high": 2},
                        "lambda_remove": {"choices": [1, 2]},
                    },
                },
            }
        )
    )
    method = config.methods["sae_ft"]
    assert method.lambda_resid == 1.0
    assert method.open_values() == {"lambda_add": Range(low=1, high=2), "lambda_remove": Choices(choices=(1, 2))}
    fixed = method.with_values({"lambda_add": 1.5, "lambda_remove": 2.0})
    assert not fixed.open_values()
    assert fixed.lambda_add == 1.5


def test_a_dictionarys_settings_are_the_same_after_they_were_recorded():
    for given in ({"recipe": "reference"}, {"recipe": "reference", "steps": 9}, {"from": "a.pt", "k": 8}, {}):
        made = parse(yaml.safe_dump({**SMALL, "dictionary": given}))
        assert SweepConfig.model_validate_json(made.model_dump_json()) == made


def test_the_preset_of_the_paper_is_its_effective_lambdas():
    dictionary = {**SMALL["dictionary"], "input": "raw", "activation": "topk"}
    methods = {"ft": {}, "sae_ft": {"preset": "paper"}}
    method = parse(yaml.safe_dump({**SMALL, "dictionary": dictionary, "methods": methods})).methods["sae_ft"]
    assert (method.lambda_add, method.lambda_resid, method.lambda_remove) == (700, 70, 1.4)
    assert type(method).model_validate_json(method.model_dump_json()) == method
    assert method.weights == {"add": 700, "resid": 70, "remove": 1.4}


def test_where_a_sweep_runs_is_no_part_of_its_science():
    one = parse(yaml.safe_dump({**SMALL, "storage": "a", "compute": {"cpus": 1}}))
    two = parse(yaml.safe_dump({**SMALL, "storage": "b", "compute": {"cpus": 2}}))
    assert one.determining_settings() == two.determining_settings()
    assert one.determining_settings() != parse(yaml.safe_dump({**SMALL, "seed": 1})).determining_settings()


def refusal(old, new):
    with pytest.raises(ValueError, match="mistake") as found:
        parse(yaml.safe_dump(SMALL).replace(old, new))
    return str(found.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.3%", "it is a percentage: write it without the sign, divided by 100 (0.003)"),
        ("1e\u22123", "its minus is a typographic one, which makes it text: write 1e-3"),
        ("0,001", "it has a decimal comma: write 0.001"),
        ("fast", "it is text, not a number"),
        ("'0.001'", "it is text: remove the quotes"),
    ],
)
def test_a_number_that_is_text_is_told_why(text, words):
    told = refusal("lr: 0.001", f"lr: {text}")
    assert words in told
    assert ("remove the quotes" in told) == text.startswith("'")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("MSE", "found 'MSE', which contains 'E', 'M', 'S'; allowed"),
        ("m" * 41, "which has 41 characters; allowed"),
        ("2nd", "which begins with '2'; allowed"),
        ("Long" + "g" * 40, "which has 44 characters and contains 'L'; allowed"),
    ],
)
def test_a_label_is_told_the_rule_that_it_breaks(label, words):
    with pytest.raises(ValueError, match="mistake") as found:
        parse(yaml.safe_dump({**SMALL, "methods": {"ft": None, label: {"type": "ft"}}}))
    assert words in str(found.value)
    with pytest.raises(ValueError, match="which has 81 characters; allowed"):
        parse(yaml.safe_dump({**SMALL, "name": "n" * 81}))


def test_two_forms_of_one_name_are_told_apart():
    tests = {"caf\u00e9": {"path": "/x", "role": "ood"}}
    data = {"type": "folder", "train": "/t", "tests": tests, "templates": ["a {}"]}
    with pytest.raises(ValueError, match="only in unicode form"):
        parse(yaml.safe_dump({**SMALL, "data": data, "features": {"sets": ["cafe\u0301"]}}, allow_unicode=True))


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"report": {"lines": {"V9": [1, 0]}}}, "report.lines.V9: unknown OOD set 'V9'; allowed: "),
        ({"report": {"lines": {"clean": [1, 0]}}}, "report.lines.clean: unknown OOD set 'clean'"),
        (
            {"report": {"lines": {"noise": [float("nan"), 0]}}},
            "report.lines.noise.0: found nan; input should",
        ),
        (
            {"report": {"compare": [["wise_ft", "ft"], ["ft", "wise_ft"]]}},
            "report.compare.1: ft and wise_ft are",
        ),
        ({"report": {"lines": {"V2": [1]}}}, "report.lines.V2.1: is missing"),
        ({"report": {"lines": [1]}}, "report.lines: found [1]; give a map"),
        ({"report": {"compare": [["ft"]]}}, "report.compare.0.1: is missing"),
        ({"report": {"compare": [["ft", "wise_ft", "sae_ft"]]}}, "report.compare.0"),
        ({"train": {"epochs": 1, "weight_decay": float("inf")}}, "train.weight_decay: found inf"),
        ({"train": {"epochs": 1, "cache_gb": float("inf")}}, "train.cache_gb: found inf"),
        ({"train": {"epochs": 1, "cache_gb": 1e305}}, "train.cache_gb: found 1e+305"),
        ({"compute": {"gpus": float("inf")}}, "compute.gpus: found inf"),
        ({"compute": {"checkpoint_minutes": float("inf")}}, "compute.checkpoint_minutes: found inf"),
        (
            {"model": {**SMALL["model"], "mean": [123.675, 0.4, 0.4]}},
            "model.mean.0: found 123.675; pixels are",
        ),
        ({"model": {**SMALL["model"], "mean": [123.675, 0.4, 0.4]}}, "written 0.485"),
        ({"model": {**SMALL["model"], "mean": [float("nan"), 0.4, 0.4]}}, "model.mean.0: found nan"),
        ({"model": {**SMALL["model"], "std": [0.2, 58.4, 0.2]}}, "model.std.1: found 58.4; pixels are scaled"),
        ({"model": {**SMALL["model"], "std": [0.2, 0, 0.2]}}, "model.std.1: found 0"),
        (
            {"model": {**SMALL["model"], "image_size": 10**9}},
            "model.image_size: found 1000000000; input",
        ),
        ({"confirm": {"seeds": 10**9}}, "confirm.seeds: found 1000000000; input should be less than or equal to 10000"),
        ({"confirm": {"seeds": {"min": 3, "max": 10**9}}}, "confirm.seeds.max: found 1000000000"),
        ({"confirm": {"draw": 10**30}}, "confirm.draw: found 1000"),
        ({"search": {"trials": 10**9}}, "search.trials: found 1000000000"),
        ({"rerank": {"top": 10**9, "seeds": 10**9}}, "rerank.seeds: found 1000000000"),
        ({"dictionary": {"width": 10**12}}, "dictionary.width: found 1000000000000"),
        ({"dictionary": {"seeds": 10**9}}, "dictionary.seeds: found 1000000000"),
        ({"train": {"epochs": 10**9}}, "train.epochs: found 1000000000"),
        ({"seed": 10**290}, "seed: found 1000"),
    ],
)
def test_names_that_only_the_report_reads_and_absurd_numbers_are_told_by_the_plan(sections, words):
    assert words in mistakes(**sections)


def test_a_line_of_an_ood_set_is_taken():
    data = parse(yaml.safe_dump(SMALL)).data.test_sets()
    name = next(name for name, role in data.items() if role == "ood")
    assert parse(yaml.safe_dump({**SMALL, "report": {"lines": {name: [0.9, -0.5]}}})).report.lines == {
        name: (0.9, -0.5)
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: !!int 010", "'010' has the tag !!int, by which it would be read otherwise; remove the tag"),
        ("seed: !!int 1:30", "line 1, column 7: '1:30' has the tag !!int"),
        ("seed: !!int abc", "has the tag !!int"),
        ("seed: !!float abc", "has the tag !!float"),
        ("seed: !!bool maybe", "has the tag !!bool"),
        ("seed: !!bool yes", "has the tag !!bool"),
        ("seed: !!timestamp abc", "has the tag !!timestamp"),
        ("seed: !!binary ===", "has the tag !!binary"),
        ("methods: !!set {ft}", "this mapping has the tag !!set"),
        ("a: &a {b: 1}\nc: {<<: *a, <<: *a}", "line 2, column 13: the key '<<' is given twice"),
        ("a: {<<: {b: 1, b: 2}}", "the key 'b' is given twice"),
        ("classes: {1: a, +1: b}", "the key 1 is given twice"),
        ("seed: " + "9" * 5000, "a number of 5,000 digits; at most 300"),
        ('name: "\\ud800"', "half of a character"),
        ('name: "\\UFFFFFFFF"', "not valid YAML"),
        ("name: \0", "special characters are not allowed"),
    ],
)
def test_what_yaml_would_read_by_rules_of_its_own_is_one_line(text, words):
    with pytest.raises(ValueError, match="not valid YAML") as found:
        parse(text, "a.yaml")
    assert words in str(found.value)
    assert len(str(found.value).splitlines()) == 1


def test_tags_that_change_nothing_are_read():
    assert yaml.load("{a: !!int 10, b: !!str 010, c: !!float 1e-3, d: !!map {}, e: !!seq []}", Loader) == {
        "a": 10, "b": "010", "c": 1e-3, "d": {}, "e": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("search", 3, "found 3; give a map with any of the keys trials, repeats, lag, early_stopping"),
        ("train", "fast", "found 'fast'; give a map with any of the keys epochs, batch_size"),
        ("methods", ["ft"], "give a map of methods, such as ft: {}"),
        ("confirm", "five", "confirm: found 'five'"),
    ],
)
def test_a_section_that_is_no_map_is_told_what_it_holds(place, value, words):
    with pytest.raises(ValueError, match=place) as caught:
        parse(yaml.safe_dump({**SMALL, place: value}))
    assert words in str(caught.value)
    assert "dictionary or instance" not in str(caught.value)


CODES = {"sae_ft": "lambda_add", "sae_l1": "lambda_l1", "sae_kl": "lambda_kl"}


@pytest.mark.parametrize("name", CODES)
def test_a_permuted_dictionary_whose_atoms_no_term_reads_is_refused(name):
    def methods(**more):
        return {"ft": {}, "control": {"type": name, "dictionary": "permuted", CODES[name]: 3.0, **more}}

    for idle in ({}, {"lambda_resid": 0}, {"lambda_resid": {"choices": [0]}}):
        assert "permuted without lambda_resid is dictionary: trained" in mistakes(methods=methods(**idle))
    for read in (1.0, {"low": 1, "high": 9}, {"choices": [0, 1]}):
        parse(yaml.safe_dump({**SMALL, "methods": methods(lambda_resid=read)}))


def test_sae_w_reads_atoms_by_its_own_term():
    control = {"type": "sae_w", "dictionary": "permuted", "lambda_l1": 1.0}
    assert "permuted without lambda_resid or lambda_wass" in mistakes(methods={"ft": {}, "sae_w": control})
    parse(yaml.safe_dump({**SMALL, "methods": {"ft": {}, "sae_w": {**control, "lambda_wass": 1.0}}}))


SAME = [
    ({"type": "ft"}, {"type": "ft"}),
    ({"type": "random_dictionary", "lambda_add": 2.0}, {"type": "sae_ft", "dictionary": "random", "lambda_add": 2}),
    ({"type": "sae_ft", "lambda_add": 2.0, "remove_on": "preactivations"}, {"type": "sae_ft", "lambda_add": 2.0}),
    ({"type": "sae_kl", "lambda_l1": 2.0}, {"type": "sae_l1", "lambda_l1": 2.0}),
    ({"type": "sae_w", "lambda_l1": 2.0, "epsilon": 0.1}, {"type": "sae_l1", "lambda_l1": 2.0}),
    ({"type": "sae_l1", "lambda_resid": 2.0}, {"type": "sae_ft", "lambda_resid": 2.0}),
    ({"type": "flyp"}, {"type": "carot", "lambda_orth": 0, "lambda_cross": 0, "lambda_distil": 0}),
    ({"type": "mse", "lambda_mse": {"low": 1, "high": 9}}, {"type": "mse", "lambda_mse": {"low": 1.0, "high": 9.0}}),
]
DIFFERENT = [
    ({"type": "sae_ft", "lambda_add": 2.0}, {"type": "sae_ft", "lambda_add": 2.0, "scaling": "relative"}),
    ({"type": "sae_ft", "lambda_remove": 2.0, "remove_on": "preactivations"}, {"type": "sae_ft", "lambda_remove": 2.0}),
    ({"type": "sae_ft", "lambda_add": 2.0}, {"type": "sae_ft", "lambda_add": 2.0, "dictionary": "untrained"}),
    ({"type": "sae_w", "lambda_wass": 2.0, "epsilon": 0.1}, {"type": "sae_w", "lambda_wass": 2.0}),
    ({"type": "mse", "lambda_mse": 2.0}, {"type": "mse", "lambda_mse": 2.0, "input": "raw"}),
    ({"type": "mse", "lambda_mse": {"low": 1, "high": 9}}, {"type": "mse", "lambda_mse": {"low": 1, "high": 8}}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_arm_under_two_names_is_refused(one, other):
    told = mistakes(methods={"first": one, "second": other}, report={"baseline": "first"})
    assert "methods.second: is the same arm as 'first' under another name" in told


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_arms_that_differ_in_what_trains_them_are_two(one, other):
    config = {**SMALL, "methods": {"first": one, "second": other}, "report": {"baseline": "first"}}
    parse(yaml.safe_dump(config))
