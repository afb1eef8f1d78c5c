"""SAEs of others: the reference's files and SAELens's folders, read as their own code reads them."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from saeft_ray import sae
from saeft_ray.errors import UserError
from saeft_ray.orchestration import artifacts
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.settings import DictionarySettings

import sweeps

CPU = torch.device("cpu")
D, d, K = 40, 6, 4
X = torch.randn(30, d, generator=torch.Generator().manual_seed(0)) * 3


def reference_state(width=D, dim=d, seed=0):
    """What the paper's code saves: two linear layers without bias, and the bias before them."""
    torch.manual_seed(seed)
    encoder, decoder = torch.nn.Linear(dim, width, bias=False), torch.nn.Linear(width, dim, bias=False)
    return {"b_pre": torch.randn(dim) / 9, "encoder.weight": encoder.weight.data, "decoder.weight": decoder.weight.data}


def saved(path, state):
    torch.save(state, path)
    return str(path)


def test_the_references_file_is_read_as_its_own_forward_pass_does(tmp_path):
    state = reference_state()
    made = sae.import_reference(saved(tmp_path / "a.pt", state), K)
    x = X / (X.norm(dim=1, keepdim=True) + 1e-8)
    a = torch.nn.functional.linear(x - state["b_pre"], state["encoder.weight"])
    values, index = a.topk(K)
    z = torch.zeros_like(a).scatter(1, index, values)
    torch.testing.assert_close(made.read(X), x)
    torch.testing.assert_close(made.encode(x).codes, z)
    want = torch.nn.functional.linear(z, state["decoder.weight"]) + state["b_pre"]
    torch.testing.assert_close(made.decode(made.encode(x).codes), want)
    assert (made.settings.k, made.settings.width, made.settings.activation) == (K, D, "topk")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"b_pre": torch.zeros(5)}, r"shapes do not fit each other: encoder \(40, 6\), atoms \(40, 6\), bias \(5,\)"),
        ({"decoder.weight": torch.zeros(40, 6)}, r"atoms \(6, 40\)"),
        ({"encoder.weight": torch.full((D, d), float("nan"))}, "encoder holds values that are not finite"),
        ({"b_pre": "text"}, r"needs encoder\.weight, decoder\.weight, b_pre, found b_pre, encoder"),
    ],
)
def test_a_reference_file_that_does_not_fit_is_refused_by_name(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        sae.import_reference(saved(tmp_path / "a.pt", reference_state() | change), K)


def test_an_sae_inside_something_else_is_told_where_it_lies(tmp_path):
    state = reference_state()
    with pytest.raises(UserError, match="found state_dict, state_dict_ema; save state_dict or state_dict_ema of it"):
        sae.import_reference(saved(tmp_path / "a.pt", {"state_dict": state, "state_dict_ema": state}), K)


def test_files_run_no_code_and_k_is_checked(tmp_path):
    class Code:
        def __reduce__(self):
            return print, ("ran",)

    with pytest.raises(ValueError, match="holds weights alone"):
        sae.import_reference(saved(tmp_path / "code.pt", {"b_pre": Code()}), K)
    with pytest.raises(ValueError, match="k = 41 atoms"):
        sae.import_reference(saved(tmp_path / "a.pt", reference_state()), 41)
    with pytest.raises(ValueError, match=r"no\.pt: there is no such file"):
        sae.import_reference(str(tmp_path / "no.pt"), K)


def trained(activation="relu_topk", input="unit"):
    x = np.random.default_rng(0).standard_normal((400, 1, d)).astype(np.float32) + 1
    settings = DictionarySettings(width=D, k=K, steps=30, batch_size=64, activation=activation, input=input)
    return sae.train(x, settings, 0, CPU)


def as_saelens(folder, x):
    """Codes and reconstructions of raw features by SAELens 6's definitions (sae.py, topk_sae.py, jumprelu_sae.py)."""
    cfg = json.loads((folder / "cfg.json").read_text())
    w = load_file(folder / "sae_weights.safetensors")
    scale = cfg["d_in"] ** 0.5 / x.norm(dim=-1, keepdim=True) if cfg["normalize_activations"] != "none" else 1
    pre = (x * scale - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    if cfg["architecture"] == "topk":
        values, index = pre.topk(cfg["k"])
        codes = torch.zeros_like(pre).scatter(1, index, values.relu())
    else:
        codes = pre.relu() * (pre > w["threshold"])
    return codes, (codes @ w["W_dec"] + w["b_dec"]) / scale


@pytest.mark.parametrize("input", ["unit", "raw"])
@pytest.mark.parametrize("activation", ["relu_topk", "batch_topk"])
def test_saelens_gives_our_codes_and_reconstructions_at_the_features_length(tmp_path, activation, input):
    made = trained(activation, input)
    sae.export_saelens(made, tmp_path)
    codes, decoded = as_saelens(tmp_path, X)
    ours = made.encode(made.read(X)).codes
    torch.testing.assert_close(codes, ours, rtol=1e-4, atol=1e-5)
    length = X.norm(dim=1, keepdim=True) if input == "unit" else 1
    torch.testing.assert_close(decoded, made.decode(ours) * length, rtol=1e-4, atol=1e-5)
    again = sae.import_saelens(str(tmp_path), K, input=input)
    for name, tensor in made.named_buffers():
        torch.testing.assert_close(getattr(again, name).expand(tensor.shape) if tensor.ndim else tensor, tensor)
    torch.testing.assert_close(again.encode(again.read(X)).codes, ours, rtol=1e-4, atol=1e-5)
    assert (again.settings.activation, again.settings.input) == (activation, input)


@pytest.mark.parametrize("activation", ["relu_topk", "batch_topk"])
def test_sae_lens_itself_loads_an_export(tmp_path, activation):
    sae_lens = pytest.importorskip("sae_lens")
    made = trained(activation)
    sae.export_saelens(made, tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    with torch.no_grad():
        codes = theirs.encode(X)
        decoded = theirs.decode(codes)
    ours = made.encode(made.read(X)).codes
    torch.testing.assert_close(codes, ours, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decoded, made.decode(ours) * X.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)
    theirs.save_model(tmp_path / "theirs")
    again = sae.import_saelens(str(tmp_path / "theirs"), K)
    torch.testing.assert_close(again.encode(again.read(X)).codes, ours, rtol=1e-4, atol=1e-5)


def test_signed_topk_has_no_form_in_saelens(tmp_path):
    with pytest.raises(ValueError, match="no signed top-k"):
        sae.export_saelens(trained("topk"), tmp_path)


@pytest.mark.parametrize(
    ("cfg", "weights", "words"),
    [
        ({"architecture": "gated"}, {}, "architecture 'gated'"),
        ({"k": 9}, {}, "k = 9, not 4"),
        ({"k": "4"}, {}, "k = '4', not 4"),
        ({}, {"W_enc": torch.ones(d, D).to(torch.float8_e4m3fn)}, r"W_enc is torch\.float8_e4m3fn.*in float32"),
        ({"normalize_activations": "layer_norm"}, {}, "normalize_activations 'layer_norm'"),
        ({"apply_b_dec_to_input": False, "reshape_activations": "hook_z"}, {}, "not taken from the input; features re"),
        ({"rescale_acts_by_decoder_norm": True}, {}, "scaled by the length of atoms"),
        ({"architecture": "jumprelu"}, {}, "without threshold"),
        ({}, {"b_enc": torch.ones(D)}, "with an encoder bias"),
        ({}, {"b_dec": torch.full((d,), float("inf"))}, "bias holds values that are not finite"),
        ({}, {"W_dec": torch.ones(D, d + 1)}, r"atoms \(40, 7\)"),
        ({}, {"W_dec": torch.ones(D)}, r"atoms \(40,\)"),
        ({}, {"scaling": torch.ones(D)}, "with scaling, which would not be used"),
        ({}, {"threshold": torch.ones(D)}, "with threshold, which would not be used"),
        ({"architecture": "jumprelu"}, {"threshold": torch.ones(3)}, r"threshold has the shape \(3,\)"),
        (
            {"architecture": "jumprelu"},
            {"threshold": torch.full((D,), float("nan"))},
            "threshold holds values",
        ),
        ({}, {"W_enc": torch.ones(d, D, dtype=torch.int64)}, r"W_enc is torch\.int64"),
        ({"finetuning_scaling_factor": True}, {}, "with the settings finetuning_scaling_factor, which would not"),
        ({"something_new": 3, "dtype": "float32"}, {}, "with the settings something_new, which would not be used"),
        ({"activation_fn_str": "tanh-relu"}, {}, "activation_fn_str 'tanh-relu'"),
        ({"activation_fn_kwargs": {"k": 5}}, {}, "k = 5, not 4"),
        ({"activation_fn_kwargs": {"postact": "gelu"}}, {}, "with the activation_fn_kwargs postact"),
        ({"activation_fn_kwargs": 3}, {}, "activation_fn_kwargs 3"),
        ({"d_sae": 41}, {}, r"d_sae 41, but W_dec \(40, 6\)"),
        ({"architecture": ["topk"]}, {}, r"architecture \['topk'\]"),
    ],
)
def test_what_a_dictionary_cannot_express_is_refused_by_name(tmp_path, cfg, weights, words):
    sae.export_saelens(trained(), tmp_path)
    file, tensors = tmp_path / "cfg.json", load_file(tmp_path / "sae_weights.safetensors")
    file.write_text(json.dumps(json.loads(file.read_text()) | cfg))
    save_file(tensors | weights, tmp_path / "sae_weights.safetensors")
    with pytest.raises(ValueError, match=words):
        sae.import_saelens(str(tmp_path), K)


@pytest.mark.parametrize("architecture", ["topk", "standard"])
def test_saelens_5_keeps_k_with_its_activation_function(tmp_path, architecture):
    made = trained()
    sae.export_saelens(made, tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    del cfg["k"], cfg["rescale_acts_by_decoder_norm"]
    five = {"architecture": architecture, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}
    more = {"finetuning_scaling_factor": False, "hook_name": "blocks.0", "context_size": 128, "seqpos_slice": [None]}
    (tmp_path / "cfg.json").write_text(json.dumps(cfg | five | more))
    torch.testing.assert_close(sae.import_saelens(str(tmp_path), K).encoder, made.encoder)
    with pytest.raises(ValueError, match="k = 4, not 5"):
        sae.import_saelens(str(tmp_path), 5)


@pytest.mark.parametrize("name", ["encoder.bias", "threshold", "mean"])
def test_a_tensor_of_the_reference_that_would_not_be_used_refuses_the_file(tmp_path, name):
    file = saved(tmp_path / "a.pt", reference_state() | {name: torch.ones(D)})
    with pytest.raises(ValueError, match=f"holds {name}, which a TopK SAE of the reference does not have"):
        sae.import_reference(file, K)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cfg.json", b"[]", "found list, where SAELens has a map"),
        ("cfg.json", b"[" * 99999, "no folder of SAELens"),
        ("cfg.json", b"", "is empty"),
        ("sae_weights.safetensors", b"", "is empty"),
        ("sae_weights.safetensors", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("sae_weights.safetensors", b"x" * 100, "no folder of SAELens"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_line(tmp_path, name, content, words):
    sae.export_saelens(trained(), tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        sae.import_saelens(str(tmp_path), K)
    assert "\n" not in str(caught.value)


def test_places_that_hold_no_sae_are_one_line(tmp_path):
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "page.pt").write_text("<html>")
    for file, words in (
        ("empty.pt", "is empty"),
        ("page.pt", "no file of torch"),
        ("none.pt", "no such file"),
    ):
        with pytest.raises(UserError, match=words):
            sae.import_reference(str(tmp_path / file), K)
    with pytest.raises(UserError, match=r"hf://one.*cannot be read"):
        sae.import_reference("hf://one", K)


NAMES = st.sampled_from(["encoder.weight", "decoder.weight", "b_pre", "threshold", "encoder.bias", "é", ""])
VALUES = st.one_of(
    st.builds(torch.zeros, st.lists(st.integers(0, 7), max_size=3), dtype=st.sampled_from([torch.half, torch.int8])),
    st.none() | st.integers() | st.text(max_size=4),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=st.dictionaries(NAMES, VALUES, min_size=1, max_size=3), cut=st.none() | st.integers(0, 1500))
def test_a_changed_or_cut_file_of_the_reference_is_refused_in_one_line(tmp_path, change, cut):
    file = saved(tmp_path / "a.pt", reference_state() | change)
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:cut])
    with pytest.raises(UserError) as caught:
        sae.import_reference(file, K)
    assert "\n" not in str(caught.value)


SETTINGS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [
        *("architecture", "k", "activation_fn_kwargs", "activation_fn_str", "d_in", "d_sae", "normalize_activations"),
        *("reshape_activations", "apply_b_dec_to_input", "rescale_acts_by_decoder_norm", "metadata", "new"),
    ]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=st.dictionaries(KEYS, SETTINGS, max_size=3))
def test_settings_of_saelens_are_taken_as_they_are_or_refused_in_one_line(tmp_path, change):
    made = _plainest()
    sae.export_saelens(made, tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(cfg | change))
    try:
        read = sae.import_saelens(str(tmp_path), K, input="raw")
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert torch.equal(read.encoder, made.encoder)


@cache
def _plainest():
    return trained(input="raw")


class TestInASweep:
    """`dictionary: {from: …, k: …}` takes a ready SAE for the trained one."""

    METHODS = {  # noqa: RUF012
        "sae_ft": {"lambda_add": 300},
        "permuted": {"type": "sae_ft", "lambda_resid": 300, "dictionary": "permuted"},
        "random_dictionary": {"lambda_add": 300},
    }

    def config(self, folder, **dictionary):
        return sweeps.config(
            folder / "runs", dictionary=dictionary, methods=self.METHODS, report={"baseline": "sae_ft"}
        )

    @pytest.fixture
    def ready(self, tmp_path):
        """An SAE of digit-clip in SAELens's format, made by a sweep without import."""
        plan, store, _ = sweeps.opened(self.config(tmp_path, width=128, k=8, steps=100, batch_size=256))
        made = artifacts.dictionary(plan.dictionary("trained", 0), plan, store)
        sae.export_saelens(made, tmp_path / "ready", plan.facts.model)
        return tmp_path / "ready"

    def test_it_stands_in_for_the_trained_one(self, ready, tmp_path):
        config = self.config(tmp_path / "b", **{"from": str(ready), "k": 8, "width": 128, "seeds": 2})
        plan, store, ledger = sweeps.opened(config)
        listed = [a for a in plan.artifacts() if a.kind == "dictionary"]
        assert [a.identity["kind"] for a in listed] == ["trained", "permuted", "permuted", "random", "random"]
        read = artifacts.dictionary(listed[0], plan, store)
        want = sae.import_saelens(str(ready), 8)
        assert torch.equal(read.encoder, want.encoder)
        assert torch.equal(artifacts.dictionary(listed[1], plan, store).atoms, want.atoms)
        again, _, _ = reopen(ledger.url)
        assert [a.key for a in again.artifacts()] == [a.key for a in plan.artifacts()]

    def test_its_identity_is_its_content(self, ready, tmp_path):
        moved = ready.rename(tmp_path / "moved")
        one = find_facts(self.config(tmp_path, **{"from": str(moved), "k": 8, "width": 128})).imported
        made = sae.import_saelens(str(moved), 8)
        sae.export_saelens(made, tmp_path / "other")
        two = find_facts(self.config(tmp_path, **{"from": str(tmp_path / "other"), "k": 8, "width": 128})).imported
        assert one != two

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"k": 8, "width": 64}, r"dictionary\.width: found 64, but .*ready has 128; give 128"),
            ({"k": 7, "width": 128}, "k = 8, not 7"),
            ({"k": 8, "width": 128, "input": "raw"}, r"dictionary\.input: found raw, but .*ready has unit"),
            ({"k": 8, "width": 128, "activation": "topk"}, r"dictionary\.activation: found topk, but .* relu_topk"),
        ],
    )
    def test_what_does_not_fit_is_told_before_anything_runs(self, ready, tmp_path, given, words):
        with pytest.raises(ValueError, match=words):
            find_facts(self.config(tmp_path, **{"from": str(ready), **given}))

    def test_an_sae_of_another_model_is_refused(self, ready, tmp_path):
        sae.export_saelens(sae.import_saelens(str(ready), 8), tmp_path / "o", {"arch": "other", "weights": "0"})
        with pytest.raises(
            ValueError, match=r"dictionary\.from: .*o was made for .*other.*, but this sweep fine-tunes"
        ):
            find_facts(self.config(tmp_path, **{"from": str(tmp_path / "o"), "k": 8, "width": 128}))

    def test_features_of_another_width_are_refused(self, tmp_path):
        file = saved(tmp_path / "a.pt", reference_state(128, 512))
        with pytest.raises(ValueError, match=r"a\.pt reads features of width 512, but this model's have 64"):
            find_facts(self.config(tmp_path, **{"from": file, "k": 8, "width": 128}))

    def test_an_sae_of_the_same_width_that_codes_something_else_is_refused(self, tmp_path):
        file = saved(tmp_path / "a.pt", reference_state(128, 64))
        config = self.config(tmp_path, **{"from": file, "k": 8, "width": 128})
        assert config.dictionary.activation == "topk"  # the reference's, unless the file says otherwise
        plan, store, _ = sweeps.opened(config)
        with pytest.raises(ValueError, match="worse than their mean would"):
            artifacts.dictionary(plan.dictionary("trained", 0), plan, store)

    def test_a_suffix_in_capitals_is_a_suffix(self, tmp_path):
        file = saved(tmp_path / "A.PT", reference_state(128, 64))
        config = self.config(tmp_path, **{"from": file, "k": 8, "width": 128})
        assert config.dictionary.activation == "topk"
        assert find_facts(config).imported

    def test_one_file_of_a_folder_is_told_apart(self, ready, tmp_path):
        file = str(ready / "sae_weights.safetensors")
        with pytest.raises(ValueError, match=r"names a single file; give the folder of SAELens that holds cfg\.json"):
            find_facts(self.config(tmp_path, **{"from": file, "k": 8, "width": 128}))

    def test_k_must_be_given(self, tmp_path):
        with pytest.raises(ValueError, match="dictionary: k is missing; with `from` it must be given"):
            self.config(tmp_path, **{"from": "a.pt", "width": 128})
