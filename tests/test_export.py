"""A tuned model leaves the sweep as open_clip reads it, with equal outputs."""

import json
import subprocess
import sys

import numpy as np
import open_clip
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from saeft_ray import export
from saeft_ray.methods.baselines import WiseFT
from saeft_ray.model import encoder
from saeft_ray.model.interpolate import interpolate
from saeft_ray.orchestration import artifacts, hub_folder
from saeft_ray.orchestration.model_card import model_card
from saeft_ray.records.ledger import Ledger

import sweeps

DIGITS = sweeps.SMALL["model"]


@pytest.fixture
def ended(tmp_path):
    """A sweep with the end point of one confirm trial of ft; its specs, and what it ended in."""
    methods = {"zero_shot": {}, "ft": {}, "wise_ft": {"of": "ft", "alpha": 0.25}}
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path / "runs", methods=methods, confirm={"seeds": 1}))
    specs = {spec.method: spec for spec in plan.confirm(plan.config.methods)}
    for spec in specs.values():
        ledger.begin_trial(spec)
    tuned = moved(encoder.load(plan.config.model).classifier(artifacts.head(plan, store)))

    def write(folder):
        save_file(tuned.state_dict(), folder / "model.safetensors")
        (folder / "history.json").write_text("[]")

    store.ensure("endpoint", plan.final_weights(specs["ft"]).key, write)
    return ledger.url, specs, tuned, plan, store


def moved(classifier):
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return classifier.eval()


def outputs(file, head, arch, classifier, images):
    """Features and logits of what open_clip loads, by open_clip's own functions."""
    loaded = open_clip.create_model(arch, pretrained=str(file)).eval()
    with torch.no_grad():
        pixels = (images.float() - classifier.mean) * classifier.scale
        features = loaded.encode_image(pixels)
        tensors = load_file(head)
        return features, normalize(features, dim=-1) @ tensors["weight"].T + tensors["bias"], loaded


@pytest.mark.parametrize("method", ["ft", "wise_ft"])
def test_open_clip_loads_an_end_point_with_equal_outputs(ended, tmp_path, capsys, method):
    url, specs, tuned, plan, store = ended
    file = tmp_path / "tuned.safetensors"
    assert export.main([url, specs[method].id, str(file)]) == 0
    assert f"open_clip.create_model('digit-clip', pretrained='{file}') loads it" in capsys.readouterr().out
    if method == "wise_ft":
        assert specs[method].settings == WiseFT(of="ft", alpha=0.25)
        frozen = encoder.load(plan.config.model).classifier(artifacts.head(plan, store))
        tuned = interpolate(frozen, tuned, 0.25).eval()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 28, 28), np.uint8))
    head = tmp_path / "tuned.head.safetensors"
    features, logits, loaded = outputs(file, head, "digit-clip", tuned, images)
    with torch.no_grad():
        want = tuned(images)
    assert torch.equal(features, want.embeddings)
    torch.testing.assert_close(logits, want.logits)
    with safe_open(head, "pt") as opened:
        assert json.loads(opened.metadata()["classes"]) == list(plan.config.data.class_names())
    clip = encoder.load(plan.config.model)
    words = clip.tokenize(["a seven"])
    assert torch.equal(loaded.encode_text(words), clip.clip.encode_text(words))


def test_nothing_is_overwritten_and_mistakes_are_told(ended, tmp_path, capsys):
    url, specs, *_ = ended
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"mine")

    def says(trial, file):
        assert export.main([url, trial, str(file)]) == 2
        return capsys.readouterr().err

    assert "is there already" in says(specs["ft"].id, mine)
    assert mine.read_bytes() == b"mine"
    assert "must end in .safetensors" in says(specs["ft"].id, tmp_path / "a.pt")
    assert "no such folder" in says(specs["ft"].id, tmp_path / "none" / "a.safetensors")
    assert "'ft' is a method" in says("ft", tmp_path / "a.safetensors")
    assert "zero_shot trains no weights" in says(specs["zero_shot"].id, tmp_path / "a.safetensors")
    assert export.main([str(tmp_path), "ft", str(tmp_path / "a.safetensors")]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "mine.safetensors"}


ELSEWHERE = """
import json, sys
sys.modules["saeft_ray"] = None  # an import of it raises ImportError
import open_clip, torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
folder, given, taken = sys.argv[1:]
model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
with safe_open(f"{folder}/head.safetensors", "pt") as head:
    weight, bias, classes = head.get_tensor("weight"), head.get_tensor("bias"), json.loads(head.metadata()["classes"])
normalise = next(step for step in preprocess.transforms if type(step).__name__ == "Normalize")
with torch.no_grad():
    features = model.eval().encode_image(normalise(load_file(given)["images"] / 255))
    text = model.encode_text(load_file(given)["tokens"])
logits = torch.nn.functional.normalize(features, dim=-1) @ weight.T + bias
save_file({"features": features, "logits": logits, "text": text}, taken, {"classes": json.dumps(classes)})
"""


def test_a_folder_for_the_hub_loads_where_this_package_is_not(ended, tmp_path, capsys):
    url, specs, tuned, plan, _ = ended
    folder = tmp_path / "model"
    assert export.main([url, specs["ft"].id, f"hf:{folder}"]) == 0
    assert f"open_clip.create_model('local-dir:{folder}') loads it" in capsys.readouterr().out
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 28, 28), np.uint8))
    clip = encoder.load(plan.config.model)
    tokens = clip.tokenize(["a seven"])
    save_file({"images": images.float(), "tokens": tokens}, tmp_path / "given.safetensors")
    command = [sys.executable, "-I", "-c", ELSEWHERE, folder, tmp_path / "given.safetensors", tmp_path / "taken"]
    subprocess.run(command, cwd=tmp_path, env={}, check=True, capture_output=True)
    taken = load_file(tmp_path / "taken")
    with torch.no_grad():
        want = tuned(images)
    torch.testing.assert_close(taken["features"], want.embeddings, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(taken["logits"], want.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(taken["text"], clip.clip.encode_text(tokens))
    with safe_open(tmp_path / "taken", "pt") as opened:
        assert json.loads(opened.metadata()["classes"]) == list(plan.config.data.class_names())
    preprocessing = json.loads((folder / "open_clip_config.json").read_text())["preprocess_cfg"]
    assert preprocessing["mean"] == preprocessing["std"] == [0.5, 0.5, 0.5], "those that the sweep used"
    assert (folder / "words.txt").read_text().split() == list(clip.tokenize.vocabulary)
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "model", "given.safetensors", "taken"}


def test_the_card_says_recipe_and_measured_rows_and_no_path(ended, tmp_path):
    url, specs, _, plan, _ = ended
    spec, ledger = specs["ft"], Ledger(ended[4], "small")
    folder = tmp_path / "model"
    assert export.main([url, spec.id, f"hf:{folder}"]) == 0
    assert "Nothing was measured" in (folder / "README.md").read_text()
    rows = [("selection", "selection", 0.875, 80), ("Sketch", "ood", 0.4321, 90)]
    ledger.finish(spec, [spec.row("small", name, role, "accuracy", value, n=n) for name, role, value, n in rows])
    assert export.main([url, spec.id, f"hf:{tmp_path / 'again'}"]) == 0
    card = (tmp_path / "again/README.md").read_text()
    assert "| Sketch | ood | accuracy | 0.4321 | 0.4321 | 1 | 90 |" in card
    assert f'"seed": {spec.seed}' in card
    assert plan.facts.data in card
    assert "Apache 2.0" in card
    assert str(tmp_path) not in card
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "open_clip"


def test_the_card_of_a_method_with_a_dictionary_says_how_that_was_made(tmp_path):
    methods = {"ft": {}, "sae_ft": {"lambda_resid": 300, "lambda_add": 300}}
    plan, _, ledger = sweeps.opened(sweeps.config(tmp_path / "runs", methods=methods))
    spec = next(spec for spec in plan.confirm(plan.config.methods) if spec.method == "sae_ft")
    card = model_card(plan, ledger, spec, "Because", words=False)
    recipe = json.loads(card.split("```json\n")[1].split("```")[0])
    assert recipe["dictionary"]["width"] == sweeps.SMALL["dictionary"]["width"]
    assert recipe["method"]["lambda_resid"] == 300
    assert "words.txt" not in card


def test_the_best_is_chosen_by_selection_and_said(ended, tmp_path, capsys, monkeypatch):
    url, specs, *_ = ended
    monkeypatch.chdir(tmp_path)
    assert export.main([url, "--best", "ft"]) == 2
    assert "no confirm trial of ft has ended well yet" in capsys.readouterr().err
    spec = specs["ft"]
    rows = [spec.row("small", "selection", "selection", "accuracy", 0.9)]
    Ledger(ended[4], "small").finish(spec, rows)
    assert export.main([url, "--best", "ft"]) == 0
    assert f"{spec.id}: the one confirm trial of ft" in capsys.readouterr().out
    assert (tmp_path / f"{spec.id}.safetensors").exists()
    assert export.main([url, "--best", "ft", "--to", "named.safetensors"]) == 0
    assert (tmp_path / "named.head.safetensors").exists()
    for wrong in ([], ["--best", "ft", "a.safetensors", "b.safetensors"], [spec.id, "a.safetensors", "--to", "b"]):
        with pytest.raises(SystemExit):
            export.main([url, *wrong])


def test_a_folder_with_something_in_it_is_left_alone(ended, tmp_path, capsys):
    url, specs, *_ = ended
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("mine")
    for place, words in (("mine", "is there already"), ("none/model", "no such folder")):
        assert export.main([url, specs["ft"].id, f"hf:{tmp_path / place}"]) == 2
        assert words in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]
    (tmp_path / "empty").mkdir()
    assert export.main([url, specs["ft"].id, f"hf:{tmp_path / 'empty'}"]) == 0


@pytest.mark.parametrize("kind", ["resnet", "custom text"])
def test_other_towers_are_exported_too(kind, tmp_path):
    name = f"tiny-{kind.split()[0]}"
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
    if kind == "custom text":
        vision = {"image_size": 32, "layers": 2, "width": 16, "patch_size": 8, "head_width": 8, "pool_type": "avg"}
    text = {"context_length": 16, "vocab_size": 41, "width": 8, "heads": 2, "layers": 1}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text, "custom_text": kind == "custom text"}
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    model = encoder.Model(arch=name, pretrained="random")
    clip = encoder.load(model)
    tuned = moved(clip.classifier(torch.randn(3, 8)))
    head = export.write(tuned, clip, model, ["a", "b", "c"], tmp_path / "it.safetensors")
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8))
    features, logits, _ = outputs(tmp_path / "it.safetensors", head, name, tuned, images)
    with torch.no_grad():
        want = tuned(images)
    torch.testing.assert_close(features, want.embeddings, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, want.logits, rtol=1e-4, atol=1e-5)
    hub_folder.write_folder(tuned, clip, model, ["a", "b", "c"], "card", tmp_path / "folder")
    with torch.no_grad():
        loaded = open_clip.create_model(f"local-dir:{tmp_path / 'folder'}").eval()
        torch.testing.assert_close(loaded.encode_image((images.float() - tuned.mean) * tuned.scale), features)
