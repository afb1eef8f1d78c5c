"""Weights: their identity is that of those in use, whatever cannot be used is one line, and none are used in part."""

import json
import re
import struct
from functools import cache, partial

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from saeft_ray import preflight
from saeft_ray.errors import Diverged, Unavailable, UserError
from saeft_ray.model import encoder, pretrained
from saeft_ray.orchestration import artifacts, trial
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.trial_context import TrialContext
from saeft_ray.settings import Model
from saeft_ray.storage.store import Store
from saeft_ray.training import evaluate
from saeft_ray.training.worker import Worker

import sweeps

DIGITS = json.loads((pretrained.SHIPPED / "digit-clip.json").read_text())
WITH_A_STRANGER = json.dumps({"model_cfg": DIGITS, "preprocess_cfg": [3]})
SHIPPED = Model(arch="digit-clip", pretrained="shipped")


def state(seed=0):
    """Weights of digit-clip that nobody else has."""
    return {name: tensor.clone() for name, tensor in _state(seed).items()}


@cache
def _state(seed):
    encoder.width(SHIPPED)  # registers the architecture
    torch.manual_seed(seed)
    return open_clip.create_model("digit-clip").state_dict()


def own(folder, seed=0, preprocess=None, name="open_clip_model.safetensors"):
    """A model as open_clip saves it for the hub: config and weights in one folder."""
    folder.mkdir(parents=True)
    config = {"model_cfg": DIGITS, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    if name:
        save_file(state(seed), folder / name)
    return f"local-dir:{folder}"


def refusal(model):
    """The one line by which the plan and the loading refuse `model`."""
    said = []
    for act in (lambda: (pretrained.identity(model), pretrained.check(model)), lambda: encoder.load(model)):
        with pytest.raises((UserError, Unavailable)) as caught:
            act()
        said.append(str(caught.value))
    assert all("\n" not in words and words.startswith("model.") for words in said), said
    assert said[0] == said[1]
    return said[0]


class TestArchitecturesThatBringTheirWeights:
    def test_their_identity_is_that_of_the_weights_in_use(self, tmp_path):
        one, two = (Model(arch=own(tmp_path / str(seed), seed)) for seed in (0, 1))
        assert pretrained.identity(one) != pretrained.identity(two)
        moved = Model(arch=own(tmp_path / "elsewhere", 0))
        assert pretrained.identity(one) == pretrained.identity(moved) == encoder.load(one).identity
        for name, tensor in state(1).items():
            assert torch.equal(encoder.load(two).clip.state_dict()[name], tensor)

    @pytest.mark.parametrize("given", ["random", "shipped", "openai", "FILE"])
    def test_other_weights_beside_them_are_a_contradiction(self, tmp_path, given):
        save_file(state(7), tmp_path / "FILE.safetensors")
        given = given.replace("FILE", str(tmp_path / "FILE.safetensors"))
        words = refusal(Model(arch=own(tmp_path / "own"), pretrained=given))
        assert f"found {given!r}, but local-dir:" in words
        assert "brings its own weights" in words
        assert "leave pretrained out" in words

    def test_naming_the_same_weights_is_none(self, tmp_path):
        arch = own(tmp_path / "own")
        same = [
            Model(arch=arch, pretrained=str(tmp_path / "own" / name)) for name in ("", "open_clip_model.safetensors")
        ]
        assert [pretrained.identity(model) for model in same] == [pretrained.identity(Model(arch=arch))] * 2

    def test_a_folder_that_is_none_is_one_line(self, tmp_path):
        assert "no open_clip_config.json" in refusal(Model(arch=f"local-dir:{tmp_path}/none"))
        assert "holds no weights" in refusal(Model(arch=own(tmp_path / "empty", name=None)))
        arch = own(tmp_path / "two", name="a.safetensors")
        save_file(state(), tmp_path / "two" / "b.safetensors")
        assert "several files of weights (a.safetensors, b.safetensors)" in refusal(Model(arch=arch))
        for number, text in enumerate(
            ["", "[]", "{}", '{"model_cfg": {"embed_dim": 8, "vision_cfg": 3}}', "[" * 9999, WITH_A_STRANGER]
        ):
            folder = tmp_path / f"config{number}"
            own(folder)
            (folder / "open_clip_config.json").write_text(text)
            assert "open_clip_config.json" in refusal(Model(arch=f"local-dir:{folder}"))

    def test_the_hub_is_the_same(self, tmp_path, monkeypatch):
        own(tmp_path / "hub", 3)

        def download(name, filename="open_clip_model.safetensors", **_):
            assert name == "someone/digits"
            return str(tmp_path / "hub" / filename)

        monkeypatch.setattr("open_clip.pretrained.download_pretrained_from_hf", download)
        monkeypatch.setattr("open_clip.factory.download_pretrained_from_hf", download)
        pretrained._of_hub.cache_clear()
        model = Model(arch="hf-hub:someone/digits")
        assert pretrained.identity(model)["arch"] == "hf-hub:someone/digits"
        assert (
            pretrained.identity(model)["weights"] == pretrained.identity(Model(arch=own(tmp_path / "a", 3)))["weights"]
        )
        assert torch.equal(encoder.load(model).clip.logit_scale, state(3)["logit_scale"])
        assert "brings its own weights" in refusal(Model(arch="hf-hub:someone/digits", pretrained="random"))

    def test_a_hub_that_cannot_be_reached_is_one_line(self, monkeypatch):
        def download(*_, **__):
            raise ConnectionError("no way\nat all")

        monkeypatch.setattr("open_clip.pretrained.download_pretrained_from_hf", download)
        assert "hf-hub:some/one could not be fetched (no way)" in refusal(Model(arch="hf-hub:some/one"))

    def test_a_sweep_records_its_weights_and_what_is_done_to_pictures(self, tmp_path):
        arch = own(tmp_path / "own", preprocess={"mean": [0.5] * 3, "resize_mode": "squash"})
        plan, _, ledger = sweeps.opened(sweeps.config(tmp_path / "runs", model={"arch": arch}))
        record = ledger.record()
        assert record["model"] == plan.facts.model
        assert re.fullmatch("[0-9a-f]{64}", record["model"]["weights"])
        assert record["preprocessing"]["resize_mode"] == "squash"
        assert record["preprocessing"]["mean"] == [0.5] * 3


def test_weights_must_be_named_and_random_ones_are_random():
    assert "is missing" in refusal(Model(arch="digit-clip"))
    one, two = (encoder.load(Model(arch="digit-clip", pretrained="random", std=std)) for std in (None, (1.0, 1.0, 1.0)))
    assert torch.equal(one.clip.visual.proj, two.clip.visual.proj)


def without(*names):
    return {name: tensor for name, tensor in state().items() if name not in names}


def of_type(dtype):
    return {name: tensor.to(dtype) for name, tensor in state().items()}


UNREADABLE = {
    "pickled.pt": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "holds weights alone"),
    "empty.pt": (lambda path: path.write_bytes(b""), "is empty"),
    "empty.safetensors": (lambda path: path.write_bytes(b""), "is empty"),
    "lfs.safetensors": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid"),
        "git lfs pull",
    ),
    "page.safetensors": (lambda path: path.write_text("<html>"), "no whole file of safetensors"),
    "page.bin": (lambda path: path.write_text("<html>"), "no file of torch"),
    "huge.safetensors": (lambda path: path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}"), "no whole file of"),
    "number.pt": (lambda path: torch.save(3, path), "found int where tensors by name"),
    "list.pt": (lambda path: torch.save([torch.zeros(2)], path), "found list where tensors by name"),
    "nothing.pt": (lambda path: torch.save({}, path), "found nothing where tensors by name"),
    "trainer.pt": (
        lambda path: torch.save({"model": state(), "epoch": 3}, path),
        "and no tensor",
    ),
    "bias.safetensors": (
        lambda path: save_file(state() | {"logit_bias": torch.zeros(())}, path),
        "it holds logit_bias, which this architecture does not have",
    ),
    "lacks.safetensors": (lambda path: save_file(without("text_projection", "visual.proj"), path), "lacks text_proj"),
    "named.pt": (lambda path: torch.save({"a": torch.zeros(2)}, path), "more and it holds a, which"),
    "fp8.safetensors": (lambda path: save_file(of_type(torch.float8_e4m3fn), path), "is F8_E4M3, of which"),
    "bool.safetensors": (lambda path: save_file(of_type(torch.bool), path), "is BOOL, of which weights cannot"),
    "int8.safetensors": (lambda path: save_file(of_type(torch.int8), path), "is int8, of which weights cannot be read"),
    "complex.pt": (lambda path: torch.save(of_type(torch.complex64), path), "is complex64, of which weights"),
    "twice.pt": (
        lambda path: torch.save({"state_dict": state(), "state_dict_ema": state(1)}, path),
        "holds weights twice, as state_dict and as state_dict_ema",
    ),
    "object.pt": (lambda path: torch.save({"a": slice(0)}, path), "it is damaged or holds more than tensors"),
    "named.bin": (lambda path: save_file(state(), path), "is a file of safetensors, and not what its name says"),
    "nameless": (lambda path: save_file(state(), path), "rename it to nameless.safetensors"),
    "CAPITAL.SAFETENSORS": (lambda path: save_file(state(), path), "rename it to CAPITAL.safetensors"),
    "torch.safetensors": (lambda path: torch.save(state(), path), "rename it to torch.pt"),
    "junk.npz": (lambda path: path.write_text("junk"), "is no archive of numpy"),
    "junk.npy": (lambda path: np.save(path, np.zeros(3)), "is no archive of numpy"),
    "other.npz": (lambda path: np.savez(path, a=np.zeros(3)), "which are for towers of timm"),
    "array.pt": (lambda path: np.save(path.open("wb"), np.zeros(3)), "is an array of numpy"),
    "shape.safetensors": (
        lambda path: save_file(state() | {"visual.proj": torch.zeros(3, 4)}, path),
        r"visual.proj is (3, 4), not (",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_weights_that_cannot_be_used_are_one_line_before_anything_runs(tmp_path, name):
    write, words = UNREADABLE[name]
    write(tmp_path / name)
    model = Model(arch="digit-clip", pretrained=str(tmp_path / name))
    assert words in refusal(model)
    with pytest.raises(UserError, match=re.escape(words)):
        find_facts(sweeps.config(tmp_path, model=model.model_dump()))


@pytest.mark.parametrize("names", [None, ["visual.proj"]])
def test_weights_of_nothing_but_zeros_are_refused(tmp_path, names):
    given = state()
    save_file(given | {name: torch.zeros_like(given[name]) for name in names or given}, tmp_path / "zero.safetensors")
    with pytest.raises(UserError, match="holds nothing but zeros; give weights that were trained"):
        encoder.load(Model(arch="digit-clip", pretrained=str(tmp_path / "zero.safetensors")))


@pytest.mark.parametrize("name", ["it", "it.PT", "it.ckpt"])
def test_a_file_of_torch_may_have_any_name(tmp_path, name):
    torch.save(state(), tmp_path / name)
    model = Model(arch="digit-clip", pretrained=str(tmp_path / name))
    pretrained.check(model)
    assert torch.equal(encoder.load(model).clip.visual.proj, state()["visual.proj"])


@pytest.mark.parametrize(("given", "words"), [("", "is empty"), (" shipped", "begins or ends with a blank; remove it")])
def test_a_name_with_blanks_around_it_or_of_nothing_is_told(given, words):
    for section, key in (("model", "pretrained"), ("model", "arch"), ("dictionary", "from")):
        settings = {**sweeps.SMALL.get(section, {}), key: given}
        with pytest.raises(UserError, match=rf"{section}\.{key}: found '{given}', which {words}"):
            sweeps.config("x", **{section: settings})


def test_answers_that_are_not_finite_are_a_result_of_training_and_a_mistake_without(tmp_path, monkeypatch):
    class Nothing(torch.nn.Module):
        def forward(self, images):
            nothing = torch.full((len(images), 2), torch.nan)
            return encoder.Output(nothing, nothing)

    config = sweeps.config(tmp_path, methods={"zero_shot": {}, "ft": {}}, confirm={"seeds": 1})
    split = config.data.split("selection", 28)
    with pytest.raises(Diverged, match="not finite"):
        evaluate.predicted(Nothing(), split, torch.device("cpu"))
    plan, store, _ = sweeps.opened(config)
    specs = {spec.method: spec for spec in plan.confirm(config.methods)}
    monkeypatch.setattr(trial, "predicted", partial(_raises, Diverged("the answers are not finite")))
    monkeypatch.setattr(TrialContext, "train", lambda *_: iter(()))
    *_, outcome = trial.run(plan, specs["ft"], store, Worker())
    assert (outcome.status, {row.status for row in outcome.rows}) == ("failed", {"failed"})
    with pytest.raises(UserError, match="not finite of selection, and nothing trained it"):
        list(trial.run(plan, specs["zero_shot"], store, Worker()))


def _raises(error, *_, **__):
    raise error


def test_a_cut_file_a_folder_and_nothing_are_one_line(tmp_path):
    save_file(state(), tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for cut in (7, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:cut])
        assert "no whole file of safetensors" in refusal(
            Model(arch="digit-clip", pretrained=str(tmp_path / "cut.safetensors"))
        )
    assert "is a folder" in refusal(Model(arch="digit-clip", pretrained=str(tmp_path)))
    assert "there is no file" in refusal(Model(arch="digit-clip", pretrained=str(tmp_path / "none.pt")))


@pytest.mark.parametrize("kind", ["fp16", "bf16", "trainer", "parallel", "old"])
def test_the_same_weights_in_other_clothes_are_loaded(tmp_path, kind):
    given, file = state(), tmp_path / "it.pt"
    if kind in ("fp16", "bf16"):
        dtype = torch.float16 if kind == "fp16" else torch.bfloat16
        given = {name: tensor.to(dtype) for name, tensor in given.items()}
        save_file(given, file := tmp_path / "it.safetensors")
    elif kind == "old":
        torch.save(given, file, _use_new_zipfile_serialization=False)
    else:
        torch.save(
            {"epoch": 3, "state_dict": {"module." * (kind == "parallel") + k: v for k, v in given.items()}}, file
        )
    loaded = encoder.load(Model(arch="digit-clip", pretrained=str(file))).clip.state_dict()
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in given.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_where_they_are_loaded(tmp_path, value, capsys):
    given = state()
    given["visual.proj"][3, 4] = value
    save_file(given, tmp_path / "bad.safetensors")
    model = {"arch": "digit-clip", "pretrained": str(tmp_path / "bad.safetensors")}
    with pytest.raises(UserError, match=r"bad\.safetensors: visual\.proj holds values that are not finite"):
        encoder.load(Model(**model))
    assert preflight.main([sweeps.file(tmp_path / "a.yaml", tmp_path, model=model), "--steps", "1"]) == 1
    assert "visual.proj holds values that are not finite" in capsys.readouterr().out


def test_weights_of_another_size_are_interpolated_only_if_asked(tmp_path):
    patch = DIGITS["vision_cfg"]["patch_size"]
    larger = {**DIGITS, "vision_cfg": {**DIGITS["vision_cfg"], "image_size": 28 + 2 * patch}}
    (tmp_path / "digit-clip-large.json").write_text(json.dumps(larger))
    open_clip.add_model_config(tmp_path / "digit-clip-large.json")
    save_file(state(), tmp_path / "small.safetensors")
    given = {"arch": "digit-clip-large", "pretrained": str(tmp_path / "small.safetensors")}
    assert "visual.positional_embedding is" in (words := refusal(Model(**given)))
    assert "model.image_size asks for that" in words
    asked = Model(**given, image_size=28 + 2 * patch)
    assert encoder.image_size(asked) == encoder.load(asked).image_size == 28 + 2 * patch
    assert pretrained.identity(asked)["image_size"] == str(28 + 2 * patch)
    pictures = torch.zeros(1, 3, 28 + 2 * patch, 28 + 2 * patch, dtype=torch.uint8)
    assert encoder.load(asked).classifier(torch.eye(2, 64)).embed(pictures).shape == (1, 64)
    shorter = {**DIGITS, "text_cfg": {**DIGITS["text_cfg"], "context_length": DIGITS["text_cfg"]["context_length"] - 1}}
    (tmp_path / "digit-clip-short.json").write_text(json.dumps(shorter))
    open_clip.add_model_config(tmp_path / "digit-clip-short.json")
    assert "positional_embedding is" in refusal(Model(arch="digit-clip-short", pretrained=given["pretrained"]))


def test_weights_that_change_while_a_sweep_runs_stop_it(tmp_path):
    save_file(state(1), tmp_path / "it.safetensors")
    model = {"arch": "digit-clip", "pretrained": str(tmp_path / "it.safetensors")}
    config = sweeps.config(tmp_path / "runs", model=model)
    plan = Plan(config, find_facts(config))
    save_file(state(2), tmp_path / "it.safetensors")
    encoder.load.cache_clear()  # as in another process
    with pytest.raises(UserError, match="its weights are not those that this sweep began with"):
        artifacts.head(plan, Store(str(tmp_path / "runs")))


FAMILY = st.sampled_from(sorted(state()))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drop=st.sets(FAMILY, max_size=2),
    add=st.sets(st.text(min_size=1, max_size=8), max_size=2),
    reshape=st.sets(FAMILY, max_size=1),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    cut=st.one_of(st.none(), st.integers(0, 3000)),
)
def test_a_file_of_weights_is_loaded_whole_or_refused_in_one_line(tmp_path, drop, add, reshape, dtype, cut):
    given = {name: tensor.to(dtype) for name, tensor in state().items()}
    wrong = {name: torch.zeros(*given[name].shape, 2) for name in reshape - drop}
    tensors = {k: v for k, v in given.items() if k not in drop} | {name: torch.zeros(2) for name in add} | wrong
    save_file(tensors, file := tmp_path / "it.safetensors")
    if cut is not None:
        file.write_bytes(file.read_bytes()[:cut])
    model = Model(arch="digit-clip", pretrained=str(file))
    if drop or add or wrong or cut is not None:
        with pytest.raises(UserError) as caught:
            pretrained.check(model)
        assert "\n" not in str(caught.value)
    else:
        encoder.load.cache_clear()
        pretrained.check(model)
        loaded = encoder.load(model).clip.state_dict()
        assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in given.items())
