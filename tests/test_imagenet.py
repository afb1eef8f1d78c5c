"""ImageNet and its shifts: labels, subsets, projection and the red border, on trees in the published layouts."""

import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from saeft_ray import sweep
from saeft_ray.config.schema import SweepConfig
from saeft_ray.datasets import NotSeen
from saeft_ray.datasets.imagenet import ImageNet
from saeft_ray.datasets.images.imagenet_classes import synsets
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.records.read import read_rows
from saeft_ray.training.evaluate import correct

from imagenet_trees import WNIDS, plant, tiny
from sweeps import SMALL, run_here
from sweeps import config as run_config

SIZE = 16
TESTS = {"ImageNet": "id"} | dict.fromkeys(("V2", "R", "A", "Sketch", "ObjectNet", "C-gaussian_noise-3"), "ood")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("imagenet")
    c = {"path": str(root / "c"), "corruptions": ["gaussian_noise"], "severities": [3]}
    return {**plant(root), "c": c, "selection": 2, "expect": "none", "classes": WNIDS}


def imagenet(trees: dict[str, Any], **settings: Any) -> ImageNet:
    return ImageNet.model_validate({**trees, **settings})


def test_every_set_in_its_published_layout(trees: dict[str, Any]) -> None:
    data = imagenet(trees)
    assert data.problems() == []
    assert data.test_sets() == TESTS
    assert data.class_names() == [
        *("tench", "goldfish", "hammerhead shark", "rooster", "hen"),
        *("analog clock", "backpack", "digital clock", "banana"),
    ]
    assert len(data.prompts()) == 80
    assert data.prompts()[0] == "a bad photo of a {}."
    assert data.sizes() == {"train": 36, "selection": 18, "ImageNet": 18, "V2": 18, "R": 10, "A": 4} | {
        "Sketch": 18,
        "ObjectNet": 6,
        "C-gaussian_noise-3": 18,
    }
    for name, count in data.sizes().items():
        split = data.split(name, SIZE)
        assert split.images(np.arange(count)).shape == (count, 3, SIZE, SIZE)
        assert (split.labels >= 0).all()
    with pytest.raises(KeyError, match="no split 'test'; it has train, selection, ImageNet"):
        data.split("test", SIZE)


def test_labels_follow_the_folders(trees: dict[str, Any]) -> None:
    data = imagenet(trees)
    for name in ("train", "selection", "ImageNet", "Sketch", "R", "A"):
        split = data.split(name, SIZE)
        for i, label in enumerate(split.labels):
            assert Path(split.file(i)).parent.name == data.wnids[label]
    v2 = data.split("V2", SIZE)
    folders = [int(Path(v2.file(i)).parent.name) for i in range(18)]
    assert folders == sorted(folders), "0, 1, 4 … 954, not 0, 1, 4 … 409, 414, 530, 7"
    assert [synsets()[folder] for folder in folders] == [data.wnids[label] for label in v2.labels]


def test_all_thousand_classes_are_known_without_the_data(trees: dict[str, Any]) -> None:
    data = imagenet(trees, classes=None)
    assert len(data.class_names()) == 1000
    assert data.class_names()[954] == "banana"
    assert set(data.split("train", SIZE).labels.tolist()) == {synsets().index(wnid) for wnid in WNIDS}
    groups = {name: data.split(name, SIZE).class_groups for name in ("ImageNet", "R", "A")}
    assert groups.pop("ImageNet") is None
    counts = {name: int((group >= 0).sum()) for name, group in groups.items() if group is not None}
    assert counts == {"R": 200, "A": 200}


class Fixed(torch.nn.Module):
    """Gives the logits of image 0, 1, … in turn."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits, self.at = logits, 0

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        self.at += len(images)
        return SimpleNamespace(logits=self.logits[self.at - len(images) : self.at])


def scored(data: ImageNet, name: str, *best_first: str) -> list[bool]:
    """Correctness of every image, when the model prefers the classes in this order."""
    split = data.split(name, SIZE)
    logits = torch.zeros(len(split.labels), len(data.wnids))
    for rank, wnid in enumerate(reversed(best_first), start=1):
        logits[:, data.wnids.index(wnid)] = rank
    return correct(Fixed(logits), split, torch.device("cpu")).tolist()


@pytest.mark.parametrize("classes", [WNIDS, None])
def test_a_set_is_scored_among_its_own_classes(trees: dict[str, Any], classes: tuple[str, ...] | None) -> None:
    data = imagenet(trees, classes=classes)
    tench, goldfish, analog, digital, backpack, banana = (synsets()[i] for i in (0, 1, 409, 530, 414, 954))
    # Tench is in none of R, A and ObjectNet, so that their images may not be taken for it.
    assert scored(data, "ImageNet", tench, banana) == [path == 0 for path in label_ranks(data, "ImageNet", tench)]
    assert scored(data, "R", tench, goldfish) == [rank == 0 for rank in label_ranks(data, "R", goldfish)]
    assert sum(scored(data, "R", tench, goldfish)) == 2
    assert scored(data, "A", tench, goldfish, banana) == [False, False, True, True]
    # Either clock is right for an alarm clock; a goldfish is never among the answers.
    clocks = [True, True, False, False, False, False]  # alarm_clock, backpack, banana
    for answer in (analog, digital):
        assert scored(data, "ObjectNet", goldfish, tench, answer) == clocks
    assert scored(data, "ObjectNet", goldfish, backpack, analog) == [False, False, True, True, False, False]


def label_ranks(data: ImageNet, name: str, wnid: str) -> list[int]:
    return [int(label != data.wnids.index(wnid)) for label in data.split(name, SIZE).labels]


def test_the_red_border_goes_before_resizing(trees: dict[str, Any]) -> None:
    split = imagenet(trees).split("ObjectNet", SIZE)
    image = Image.open(split.file(0)).convert("RGB")
    assert image.getpixel((0, 0)) == image.getpixel((1, image.height - 2)) == (255, 0, 0)
    inner = image.crop((2, 2, image.width - 2, image.height - 2))
    from open_clip import image_transform

    transform = image_transform(SIZE, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    expected = (transform(inner) * 255).round().to(torch.uint8)
    assert torch.equal(split.images(np.array([0]))[0], expected)
    assert not torch.equal((transform(image) * 255).round().to(torch.uint8), expected)


def test_the_selection_split_is_stratified_and_disjoint(trees: dict[str, Any], tmp_path: Path) -> None:
    data = imagenet(trees)
    train, held = (data.split(name, SIZE) for name in ("train", "selection"))
    assert Counter(held.labels.tolist()) == dict.fromkeys(range(9), 2)
    files = [{split.file(i) for i in range(len(split.labels))} for split in (train, held)]
    assert not files[0] & files[1]
    assert {split.file(i) for split in [imagenet(trees).split("selection", SIZE)] for i in range(18)} == files[1]
    more = imagenet(trees, selection=3).split("selection", SIZE)
    assert {more.file(i) for i in range(27)} > files[1]
    assert "would be held out, but" in "\n".join(imagenet(trees, selection=6).problems())


def test_fingerprints(trees: dict[str, Any], tmp_path: Path) -> None:
    data = imagenet(trees)
    fewer = imagenet(trees, r=None)
    assert fewer.train_fingerprint() == data.train_fingerprint(), "another test set leaves what was trained"
    assert fewer.fingerprint() != data.fingerprint()
    assert imagenet(trees, selection=1).train_fingerprint() != data.train_fingerprint()
    assert imagenet(trees, classes=WNIDS[:-1]).train_fingerprint() != data.train_fingerprint()
    moved = shutil.copytree(trees["objectnet"], tmp_path / "objectnet")
    assert imagenet(trees, objectnet=str(moved)).fingerprint() == data.fingerprint()
    mapping = moved / "mappings" / "objectnet_to_imagenet_1k.json"
    mapping.write_text(mapping.read_text().replace("name 409, another name of 409; ", ""))
    assert imagenet(trees, objectnet=str(moved)).fingerprint() != data.fingerprint(), "the label map is part of it"


def told(trees: dict[str, Any], **settings: Any) -> str:
    return "\n".join(imagenet(trees, **settings).problems())


def test_totals_are_expected_unless_told_otherwise(trees: dict[str, Any]) -> None:
    words = told(trees, expect="published", classes=None)
    assert f"data.train: {trees['train']} has no image of 'n01484850', 'n01491361'" in words
    assert "has 54 images where train has 1,281,167; complete it, or say `expect: none`" in words
    assert "val has other than 50 images of 'n01440764 (2)'" in words
    for total in ("18 images where V2 has 10,000", "10 images where R has 30,000", "4 images where A has 7,500"):
        assert total in words
    assert "18 images where Sketch has 50,889" in words
    assert "6 images where ObjectNet has 18,574" in words
    # A list of classes leaves only what is known of every class.
    words = told(trees, expect="published")
    assert "where train has" not in words
    assert "v2 has other than 10 images of 'n01440764 (2)'" in words


def test_what_does_not_fit_is_told(trees: dict[str, Any], tmp_path: Path) -> None:
    assert "data: no test set" in told({"train": trees["train"]})
    assert "data.classes: 'n00000000' among no ImageNet classes" in told(trees, classes=[*WNIDS, "n00000000"])
    assert "data.templates[0]: 'x' has no" in told(trees, templates=["x"])
    swapped = told(trees, val=trees["objectnet"] + "/images")
    assert "'alarm_clock', 'backpack', 'banana', 'squeegee'" in swapped
    assert "are not class folders of ImageNet" in swapped
    assert "has no image of the 9 classes" in swapped
    bare = tmp_path / "objectnet"
    shutil.copytree(Path(trees["objectnet"], "images"), bare / "images")
    assert "imagenet_to_label_2012_v2" not in told(trees)
    assert f"data.objectnet: {bare}/mappings/folder_to_objectnet_label.json: is missing; ObjectNet ships it" in told(
        trees, objectnet=str(bare)
    )
    shutil.copytree(Path(trees["objectnet"], "mappings"), bare / "mappings")
    overlap = bare / "mappings" / "objectnet_to_imagenet_1k.json"
    overlap.write_text(overlap.read_text().replace("name 954, another name of 954", "name 414, another name of 414"))
    assert f"two objects represent '{synsets()[414]}'" in told(trees, objectnet=str(bare))
    (bare / "mappings" / "imagenet_to_label_2012_v2").write_text("tench\n")
    assert "mapping files do not fit each other" in told(trees, objectnet=str(bare))


def test_a_corrupt_image_stops_or_is_skipped_as_the_file_says(
    trees: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    val = shutil.copytree(trees["val"], tmp_path / "val")
    broken = sorted((val / WNIDS[0]).iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:300])
    everything = np.arange(18)
    with pytest.raises(ValueError, match=f"{broken}: cannot be read as an image"):
        imagenet(trees, val=str(val)).split("ImageNet", SIZE).images(everything)
    split = imagenet(trees, val=str(val), corrupt={"skip": 1}).split("ImageNet", SIZE)
    pictures = split.images(everything)
    assert torch.equal(pictures[0], pictures[1]), "the next of its class in its place"
    assert torch.equal(pictures[1:], imagenet(trees).split("ImageNet", SIZE).images(everything[1:]))
    assert caplog.text.count(f"{broken}: cannot be read") == 1
    again = sorted((val / WNIDS[4]).iterdir())[1]
    again.write_bytes(b"")
    split = imagenet(trees, val=str(val), corrupt={"skip": 1}).split("ImageNet", SIZE)
    with pytest.raises(ValueError, match=rf"more corrupt images than data.corrupt.skip = 1: {again}: cannot be read"):
        [split.images(everything[i : i + 1]) for i in everything]  # one by one: threads may meet the second one first


def config(**data: Any) -> SweepConfig:
    return SweepConfig.model_validate({**SMALL, "data": {"type": "imagenet", **data}})


def test_a_plan_needs_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = {name: str(tmp_path / name) for name in ("train", "val", "v2", "r", "a", "sketch", "objectnet")}
    settings = {**SMALL, "storage": str(tmp_path / "runs"), "data": {"type": "imagenet", **places}}
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(settings))
    assert sweep.main([str(file), "--plan"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name, place in places.items():
        shown = place + "/images" if name == "objectnet" else place
        assert f"could not see data.{name}: {shown} is missing" in printed
    assert "unknown unknown" not in printed
    with pytest.raises(ValueError, match=r"data\.train: .* is missing; correct the path"):
        find_facts(config(**places))
    facts = find_facts(config(**places), planning=True)
    assert facts.sizes["train"] == 1_281_167 - 10_000
    assert (facts.sizes["selection"], facts.sizes["ObjectNet"], facts.classes) == (10_000, 18_574, 1000)
    assert all(isinstance(words, NotSeen) for words in config(**places).data.problems())


def test_a_plan_does_not_forgive_wrong_data(trees: dict[str, Any]) -> None:
    settings = {name: trees[name] for name in ("train", "val")} | {"r": "memory://nowhere"}
    with pytest.raises(ValueError, match="54 images where train has"):
        find_facts(config(**settings), planning=True)


def test_a_sweep_runs_on_it_and_scores_every_set(trees: dict[str, Any], tmp_path: Path) -> None:
    config = run_config(
        tmp_path / "runs",
        model={"arch": tiny(tmp_path), "pretrained": "random"},
        data={"type": "imagenet", **trees, "templates": ["a photo of a {}."]},
        train={"epochs": 1, "batch_size": 12, "lr": 1e-4},
        dictionary={"width": 64, "k": 4, "steps": 5, "batch_size": 8},
        methods={"zero_shot": {}, "ft": {}, "sae_ft": {"lambda_resid": 1, "lambda_add": 1}},
        confirm={"seeds": 1},
    )
    plan, ledger, _ = run_here(config)
    rows = [row for row in read_rows(ledger.url).to_pylist() if row["metric"] == "accuracy"]
    counts = {row["dataset"]: row["n"] for row in rows}
    assert counts == {name: n for name, n in plan.facts.sizes.items() if name != "train"}
    assert len(rows) == 3 * len(counts)
    assert all(0 <= row["value"] <= 1 for row in rows)
    assert ledger.record()["data"]["train"] == config.data.train_fingerprint()
