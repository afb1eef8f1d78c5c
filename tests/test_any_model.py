"""The pipeline is no demo: ViT-B/32 from open_clip on a folder of images, with weights from a file and from S3."""

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from saeft_ray.model import encoder
from saeft_ray.records.read import read_rows
from saeft_ray.settings import Model
from saeft_ray.storage.store import Store

import sweeps


def images(root, count, seed):
    """`count` JPEGs of noise for each of two classes, one reddish, one bluish."""
    rng = np.random.default_rng(seed)
    for channel, name in ((0, "red_thing"), (2, "blue_thing")):
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 120, (60, 80, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(root / name / f"{i}.jpg")


def folder(tmp_path):
    for name, count, seed in (("train", 10, 0), ("test", 4, 1), ("shift", 4, 2)):
        images(tmp_path / name, count, seed)
    return {
        "type": "folder",
        "train": str(tmp_path / "train"),
        "selection_share": 0.2,
        "tests": {
            "ID": {"path": str(tmp_path / "test"), "role": "id"},
            "dark": {"path": str(tmp_path / "shift"), "role": "ood"},
        },
        "templates": ["a photo of a {}.", "a {} in the dark."],
    }


@pytest.mark.slow
def test_vit_b_32_fine_tunes_on_a_folder_of_images(tmp_path):
    config = sweeps.config(
        tmp_path / "runs",
        model={"arch": "ViT-B-32", "pretrained": "random"},
        data=folder(tmp_path),
        train={"epochs": 1, "batch_size": 8, "lr": 1e-5},
        dictionary={"width": 64, "k": 4, "steps": 5, "batch_size": 8},
        methods={"zero_shot": {}, "ft": {}, "sae_ft": {"lambda_resid": 1, "lambda_add": 1}},
        confirm={"seeds": 1},
    )
    plan, ledger, _ = sweeps.run_here(config)
    rows = [row for row in read_rows(ledger.url).to_pylist() if row["metric"] == "accuracy"]
    assert {(row["method"], row["dataset"]) for row in rows} == {
        (method, dataset) for method in ("zero_shot", "ft", "sae_ft") for dataset in ("selection", "ID", "dark")
    }
    assert {row["n"] for row in rows if (row["dataset"], row["metric"]) == ("selection", "accuracy")} == {4}
    assert plan.facts.width == 512
    assert plan.facts.image_size == 224


@pytest.fixture
def tiny(tmp_path):
    """A file of fp32 digit-clip weights that are not the shipped ones."""
    encoder.width(Model(arch="digit-clip", pretrained="shipped"))  # registers the architecture
    torch.manual_seed(5)
    model = open_clip.create_model("digit-clip")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors", model


def test_weights_load_alike_from_a_file_and_from_s3(tiny, s3_url):
    file, original = tiny
    store = Store(s3_url)
    store.write("weights/tiny.safetensors", file.read_bytes())
    loaded = []
    for source in (str(file), f"{s3_url}/weights/tiny.safetensors"):
        model = Model(arch="digit-clip", pretrained=source, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        loaded.append(encoder.load(model).clip.state_dict())
        assert encoder.identity(model)["weights"] not in ("", source)
    for name, tensor in original.state_dict().items():
        assert torch.equal(loaded[0][name], tensor)
        assert torch.equal(loaded[1][name], tensor)


def test_identity_is_the_bytes_of_the_weights(tiny, tmp_path):
    file, _ = tiny
    (tmp_path / "copy.safetensors").write_bytes(file.read_bytes())
    one, same = (
        encoder.identity(Model(arch="digit-clip", pretrained=str(p))) for p in (file, tmp_path / "copy.safetensors")
    )
    assert one == same
    assert one != encoder.identity(Model(arch="digit-clip", pretrained="shipped"))
    assert json.dumps(one)


def test_features_do_not_depend_on_the_batch():
    model = encoder.load(Model(arch="digit-clip", pretrained="shipped"))
    classifier = model.classifier(torch.eye(10, 64)).eval()
    pictures = torch.randint(0, 256, (6, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = classifier(pictures)
        parts = torch.cat([classifier.embed(pictures[i : i + 2]) for i in range(0, 6, 2)])
    torch.testing.assert_close(whole.embeddings, parts, rtol=1e-4, atol=1e-5)
    assert whole.logits.shape == (6, 10)
