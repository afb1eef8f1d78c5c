"""What is done to pictures is what open_clip does for the tag: mode, interpolation, mean, deviation, pixel by pixel."""

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resized_crop

from saeft_ray import draws
from saeft_ray.datasets.folder import Folder
from saeft_ray.datasets.images.decode import SLOTS, box_of
from saeft_ray.model import encoder, pretrained
from saeft_ray.model.encoder import Classifier
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.settings import USUAL, Model

import sweeps

SHAPES = [(500, 250), (250, 500), (97, 301), (224, 224), (33, 40)]


def how(arch, tag):
    """What open_clip says of a tag, without the size."""
    return PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(), open_clip.get_pretrained_cfg(arch, tag)))


def fits(arch, tag):
    """Whether the weights of the tag are of this architecture; open_clip lists some that only warn."""
    mine = bool(open_clip.get_model_config(arch).get("quick_gelu"))
    return bool(open_clip.get_pretrained_cfg(arch, tag).get("quick_gelu")) == mine


def distinct():
    """A tag for each way in which open_clip treats pictures."""
    found = {}
    for arch, tag in open_clip.list_pretrained():
        if fits(arch, tag):
            found.setdefault(str(how(arch, tag)), (arch, tag))
    return [*found.values(), ("ViT-B-16-SigLIP2", "webli"), ("MobileCLIP-S1", "datacompdr")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures of five shapes as a data set; also all of them, open."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part in ("train", "test"):
        for number, (width, height) in enumerate(SHAPES):
            (root / part / "thing").mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
            pixels[: height // 2] //= 3  # noise alone would hide a shift
            Image.fromarray(pixels).save(root / part / "thing" / f"{number}.png")
    data = {"train": str(root / "train"), "tests": {"ID": {"path": str(root / "test"), "role": "id"}}}
    return Folder.model_validate(data), root


def seen(images, preprocessing):
    """Pictures as the encoder gets them."""
    model = Classifier(torch.nn.Identity(), torch.nn.Linear(1, 1), *preprocessing[:2])
    return model.embed(images)


@pytest.mark.parametrize(("arch", "tag"), distinct())
def test_evaluation_is_open_clips_own_transform_of_the_tag(pictures, arch, tag):
    data, root = pictures
    model = Model(arch=arch, pretrained=tag)
    size, preprocessing = encoder.image_size(model), pretrained.preprocessing(model)
    split = data.prepared(preprocessing).split("ID", size)
    cfg = how(arch, tag)
    cfg.size = size
    transform = image_transform_v2(cfg, is_train=False)
    want = torch.stack([transform(Image.open(root / "test" / "thing" / f"{i}.png")) for i in range(len(SHAPES))])
    got = seen(split.images(np.arange(len(SHAPES))), preprocessing)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5)  # one grey level is at least 0.0039


@pytest.mark.parametrize(("arch", "tag"), [("ViT-B-16-SigLIP2", "webli"), ("MobileCLIP-S1", "datacompdr")])
def test_views_are_cut_out_and_keep_the_tags_mean_deviation_and_interpolation(pictures, arch, tag):
    data, root = pictures
    preprocessing, cfg = pretrained.preprocessing(Model(arch=arch, pretrained=tag)), how(arch, tag)
    split = data.prepared(preprocessing).split("train", 64)
    index = np.arange(len(split.labels))
    numbers = [int(name.removeprefix("thing/").removesuffix(".png")) for name in split.names]
    draw = draws.uniform(7, "folder view", np.flatnonzero(np.isin(range(len(SHAPES)), numbers)), 0 * index, slots=SLOTS)
    mode = InterpolationMode(cfg.interpolation)
    for i, got in zip(index, split.views(index, 0 * index, 7), strict=True):
        image = Image.open(root / "train" / "thing" / f"{numbers[i]}.png")
        left, top, right, bottom = box_of(*image.size, data.scale, draw[i, :-1])
        want = np.asarray(resized_crop(image, top, left, bottom - top, right - left, [64, 64], mode))
        assert np.array_equal(got.permute(1, 2, 0).numpy(), want)
    assert (preprocessing.mean, preprocessing.std) == (cfg.mean, cfg.std)


def test_longest_fills_what_is_left(pictures):
    data, root = pictures
    preprocessing = USUAL._replace(resize_mode="longest", fill_color=9)
    transform = image_transform_v2(PreprocessCfg(size=50, resize_mode="longest", fill_color=9), is_train=False)
    want = torch.stack([transform(Image.open(root / "test" / "thing" / f"{i}.png")) for i in range(len(SHAPES))])
    got = seen(data.prepared(preprocessing).split("ID", 50).images(np.arange(len(SHAPES))), preprocessing)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5)


def test_what_was_right_before_keeps_its_identity():
    for arch, tag in filter(lambda each: fits(*each), open_clip.list_pretrained()):
        model = Model(arch=arch, pretrained=tag)
        if how(arch, tag).resize_mode == "shortest" and how(arch, tag).interpolation == "bicubic":
            assert pretrained.identity(model) == {"arch": arch, "weights": tag}
        else:
            assert pretrained.identity(model).keys() & {"resize_mode", "interpolation"}
    assert Model(arch="a", pretrained="b").model_dump() == {"arch": "a", "pretrained": "b", "mean": None, "std": None}
    assert pretrained.identity(Model(arch="digit-clip", pretrained="shipped")).keys() == {"arch", "weights"}


def test_weights_without_a_tag_are_seen_as_all_tags_of_their_architecture_are(caplog):
    got = pretrained.preprocessing(Model(arch="ViT-B-16-SigLIP2", pretrained="random"))
    assert got == pretrained.preprocessing(Model(arch="ViT-B-16-SigLIP2", pretrained="webli"))
    assert got.resize_mode == "squash"
    identity = pretrained.identity(Model(arch="ViT-B-16-SigLIP2", pretrained="random"))
    assert identity["mean"] == "(0.5, 0.5, 0.5)"
    assert identity["resize_mode"] == "squash"
    assert not caplog.records
    assert pretrained.preprocessing(Model(arch="ViT-H-14-quickgelu", pretrained="random")).resize_mode == "shortest"
    assert "model.resize_mode: weights of ViT-H-14-quickgelu differ in it (shortest, squash)" in caplog.text
    caplog.clear()
    chosen = Model(arch="ViT-H-14-quickgelu", pretrained="random", resize_mode="squash", interpolation="bilinear")
    assert pretrained.preprocessing(chosen)[2:4] == ("squash", "bilinear")
    assert not caplog.records


def test_it_decides_artifacts_is_recorded_and_reopened(tmp_path, pictures):
    for part in ("train", "test"):
        for name in ("one", "two"):
            (tmp_path / part / name).mkdir(parents=True)
            for file in (pictures[1] / part / "thing").iterdir():
                image = Image.open(file)
                (image if name == "one" else ImageOps.mirror(image)).save(tmp_path / part / name / file.name)
    tests = {"ID": {"path": str(tmp_path / "test"), "role": "id"}}
    data = Folder.model_validate({"train": str(tmp_path / "train"), "tests": tests}).model_dump()
    plain, squashed = (
        sweeps.config(
            tmp_path / "runs",
            name=name,
            data={"type": "folder", **data, "scale": [0.9, 1.0], "templates": ["{}"]},
            model={"arch": "digit-clip", "pretrained": "shipped", **more},
        )
        for name, more in (("plain", {}), ("squashed", {"resize_mode": "squash"}))
    )
    one, two = (Plan(config, find_facts(config)) for config in (plain, squashed))
    assert one.facts.data == two.facts.data
    assert not {a.key for a in one.artifacts()} & {a.key for a in two.artifacts()}
    _, _, ledger = sweeps.opened(squashed)
    again, _, _ = reopen(ledger.url)
    assert (
        again.facts.preprocessing
        == two.facts.preprocessing
        == USUAL._replace(resize_mode="squash", mean=(0.5,) * 3, std=(0.5,) * 3)
    )
    images = [p.config.data.split("ID", 28).images(np.arange(5)) for p in (one, two, again)]
    assert torch.equal(images[1], images[2])
    assert not torch.equal(images[0], images[1])
    tuned = encoder.load(squashed.model)
    assert tuned.clip.visual.preprocess_cfg["resize_mode"] == "squash"
