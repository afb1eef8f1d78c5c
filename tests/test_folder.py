"""Your own images in folders: what is drawn, what is held out, and how mistakes are told."""

import copy
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from saeft_ray.datasets import Dataset
from saeft_ray.datasets.folder import Folder
from saeft_ray.datasets.images.decode import SLOTS, box_of, part
from saeft_ray.draws import uniform

CLASSES = ("brown_bear", "cat", "dog")
COUNTS = {"brown_bear": 20, "cat": 31, "dog": 2}
SIZE = 16


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """Smooth colours, so that JPEG and resizing keep them."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)


def plant(root: Path, counts: dict[str, int], seed: int = 0) -> str:
    """A tree of images with different shapes and suffixes."""
    for position, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            suffix = ("jpg", "png", "JPEG", "webp", "bmp")[i % 5]
            picture(seed + 1000 * position + i, 30 + i % 7, 24 + i % 5).save(root / name / f"{i:03d}.{suffix}")
    return str(root)


@pytest.fixture
def data(tmp_path: Path) -> Folder:
    train = plant(tmp_path / "train", COUNTS)
    tests = {
        "photos": {"path": plant(tmp_path / "photos", dict.fromkeys(CLASSES, 3), 50_000), "role": "id"},
        "sketches": {"path": plant(tmp_path / "sketches", {"dog": 4, "cat": 1}, 90_000), "role": "ood"},
    }
    return Folder.model_validate({"type": "folder", "train": train, "tests": tests})


def changed(data: Folder, **settings: Any) -> Folder:
    return Folder.model_validate(data.model_dump() | settings)


def test_a_good_tree(data: Folder) -> None:
    assert isinstance(data, Dataset)
    assert data.problems() == []
    assert data.class_names() == ["brown bear", "cat", "dog"]
    assert data.prompts() == ("a photo of a {}.",)
    assert data.test_sets() == {"photos": "id", "sketches": "ood"}
    assert data.sizes() == {"train": 47, "selection": 6, "photos": 9, "sketches": 5}
    for name, count in data.sizes().items():
        split = data.split(name, SIZE)
        assert split.labels.shape == (count,)
        assert split.labels.dtype == np.int64
        assert len(split.example_order) == 64
    with pytest.raises(KeyError, match="no split 'test'; it has train, selection, photos, sketches"):
        data.split("test", SIZE)


def test_settings_as_yaml_gives_them(data: Folder) -> None:
    got = changed(data, scale=[0.5, 1], templates=["a {}.", "the {}."], classes=dict.fromkeys(CLASSES, "x"))
    assert (got.scale, got.templates) == ((0.5, 1.0), ("a {}.", "the {}."))
    assert got.class_names() == ["x", "x", "x"]
    with pytest.raises(ValueError, match=r"tests\.photos\.role"):
        changed(data, tests={"photos": {"path": "x", "role": "test"}})
    with pytest.raises(ValueError, match="credentials in the URL; give them as AWS_ACCESS_KEY_ID"):
        changed(data, train="s3://key:secret@bucket/train")
    with pytest.raises(ValueError, match="flipp"):
        changed(data, flipp=True)


def test_evaluation_is_open_clips(data: Folder) -> None:
    from open_clip import image_transform

    transform = image_transform(SIZE, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    split = data.split("photos", SIZE)
    files = sorted(path for path in Path(data.tests["photos"].path).rglob("*") if path.is_file())
    expected = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    got = split.images(np.arange(len(files)))
    assert got.dtype == torch.uint8
    assert torch.equal(got, (expected * 255).round().to(torch.uint8))


def test_views_do_not_depend_on_the_batch(data: Folder) -> None:
    data = changed(data, flip=True, scale=(0.3, 1.0))
    split = data.split("train", SIZE)
    index, view = np.repeat(np.arange(47), 3), np.tile(np.arange(3), 47)
    whole = split.views(index, view, 7)
    assert whole.shape == (141, 3, SIZE, SIZE)
    assert whole.dtype == torch.uint8
    order = np.random.default_rng(0).permutation(141)
    again = changed(data).split("train", SIZE)
    parts = torch.cat([again.views(index[some], view[some], 7) for some in np.array_split(order, 20)])
    assert torch.equal(parts, whole[order])
    assert torch.equal(split.views(np.array(5), np.arange(3), 7), whole[15:18])
    assert not torch.equal(split.views(index, view, 8), whole)
    assert not torch.equal(whole[0::3], whole[1::3])
    assert split.views(np.array([], np.int64), np.array([], np.int64), 7).shape == (0, 3, SIZE, SIZE)
    assert split.images(np.array([], np.int64)).shape == (0, 3, SIZE, SIZE)


def test_a_view_does_not_depend_on_what_is_held_out(data: Folder) -> None:
    share = changed(data, selection_share=0.4)
    little, much = data.split("train", SIZE), share.split("train", SIZE)
    kept = [i for i in range(len(little.labels)) if little.file(i) in files(share, "train")]
    assert torch.equal(
        much.views(np.arange(len(much.labels)), np.array(1), 3), little.views(np.array(kept), np.array(1), 3)
    )


def test_half_of_the_views_are_mirrored(tmp_path: Path) -> None:
    ramp = np.repeat(np.repeat(np.linspace(0, 255, 32, dtype=np.uint8)[None], 32, 0)[..., None], 3, 2)
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(ramp).save(tmp_path / "train" / name / "1.png")
    plain = Folder(train=str(tmp_path / "train"), tests={})
    many = np.zeros(400, np.int64), np.arange(400)

    def mirrored(data: Folder) -> float:
        pictures = data.split("train", SIZE).views(*many, 1).float()
        return float((pictures[..., 0].mean((1, 2)) > pictures[..., -1].mean((1, 2))).float().mean())

    assert mirrored(plain) == 0
    assert 0.42 < mirrored(changed(plain, flip=True)) < 0.58


@pytest.mark.parametrize(("width", "height"), [(40, 30), (400, 20), (20, 400), (1, 1), (3, 500)])
def test_the_drawn_part_lies_within_the_image_and_has_the_asked_area(width: int, height: int) -> None:
    areas = []
    for draw in uniform(0, "test", np.arange(500), slots=40):
        left, top, right, bottom = box_of(width, height, (0.5, 0.8), draw)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        areas.append((right - left) * (bottom - top) / (width * height))
    if (width, height) == (40, 30):
        assert min(areas) > 0.45
        assert max(areas) < 0.85
        assert 0.62 < np.mean(areas) < 0.68


def files(data: Folder, split: str) -> set[str]:
    part = data.split(split, SIZE)
    return {part.file(i) for i in range(len(part.labels))}


def test_the_held_out_share(data: Folder, tmp_path: Path) -> None:
    train, held = files(data, "train"), files(data, "selection")
    assert not train & held
    assert len(train | held) == sum(COUNTS.values())
    assert files(copy.deepcopy(data), "selection") == held
    assert Counter(Path(path).parent.name for path in held) == {"brown_bear": 2, "cat": 3, "dog": 1}
    assert files(changed(data, selection_share=0.3), "selection") >= held
    # A file more in one class leaves the others alone.
    picture(1).save(tmp_path / "train" / "cat" / "more.png")
    after = files(changed(data), "selection")
    assert {path for path in held if "/cat/" not in path} == {path for path in after if "/cat/" not in path}
    # The single image of a class is trained on.
    (tmp_path / "train" / "dog" / "000.jpg").unlink()
    assert not any("/dog/" in path for path in files(changed(data), "selection"))


def test_a_selection_folder_replaces_the_share(data: Folder, tmp_path: Path) -> None:
    with_folder = changed(data, selection=plant(tmp_path / "val", {"dog": 3, "cat": 1}, 7))
    assert with_folder.problems() == []
    assert with_folder.sizes()["train"] == sum(COUNTS.values())
    assert with_folder.split("selection", SIZE).labels.tolist() == [1, 2, 2, 2]


def test_labels_map_by_name(data: Folder) -> None:
    assert data.split("sketches", SIZE).labels.tolist() == [1, 2, 2, 2, 2]
    assert data.split("photos", SIZE).labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_order_and_fingerprint(data: Folder, tmp_path: Path) -> None:
    first, order = data.fingerprint(), data.split("photos", SIZE).example_order
    assert changed(data).fingerprint() == first
    assert changed(data, templates=("a {}.",)).fingerprint() == first, "words are no part of the images"
    assert changed(data, flip=True).fingerprint() != first
    assert changed(data, selection_share=0.2).fingerprint() != first
    moved = tmp_path / "elsewhere"
    shutil.copytree(data.train, moved)
    assert changed(data, train=str(moved)).fingerprint() == first, "the place is no part of the identity"
    target = Path(data.tests["photos"].path) / "cat" / "000.jpg"
    content = bytearray(target.read_bytes())
    content[-5] ^= 1
    target.write_bytes(bytes(content))
    assert changed(data).fingerprint() != first
    assert changed(data).split("photos", SIZE).example_order == order
    target.rename(target.with_name("renamed.jpg"))
    assert changed(data).split("photos", SIZE).example_order != order


def test_a_listing_does_not_travel(data: Folder) -> None:
    small = len(pickle.dumps(data))
    data.sizes()
    assert len(pickle.dumps(data)) == small
    assert pickle.loads(pickle.dumps(data)) == data
    assert data.model_dump() == changed(data).model_dump()


MODES = ("L", "LA", "1", "P", "RGBA", "CMYK", "I;16")


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    source = picture(3, 20, 20)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(source.convert("L")).astype(np.uint16) * 257)
    else:
        image = source.quantize(64) if mode == "P" else source.convert(mode)
    image.save(tmp_path / "a" / ("x.jpg" if mode == "CMYK" else "x.png"))
    source.save(tmp_path / "b" / "x.png")
    got = Folder(train=str(tmp_path), tests={}).split("train", 20).images(np.arange(2)).float()
    reference = got[1]
    if mode in {"L", "LA", "1", "I;16"}:
        assert torch.equal(got[0, 0], got[0, 1])
        reference = torch.from_numpy(np.asarray(source.convert("L"), np.float32).copy()).expand(3, 20, 20)
    if mode != "1":  # black and white
        assert (got[0] - reference).abs().mean() < 12


def test_exif_orientation_and_palette_with_transparency(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    sideways = Image.new("RGB", (20, 20), "red")
    sideways.paste("blue", (0, 0, 20, 10))  # blue above
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180°
    sideways.save(tmp_path / "a" / "1.png", exif=exif)
    sideways.quantize(4).save(tmp_path / "a" / "2.png", transparency=bytes([255, 255]))
    upright, palette = (
        Folder(train=str(tmp_path), tests={}, selection=str(tmp_path)).split("train", 20).images(np.arange(2))
    )
    assert upright[:, 0, 0].tolist() == [255, 0, 0]
    assert palette[:, 0, 0].tolist() == [0, 0, 255]


def test_a_large_jpeg_is_decoded_reduced_where_the_view_still_has_its_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    picture(5, 640, 400).save(tmp_path / "large.jpg", quality=95)
    picture(5, 640, 400).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    picture(5, 640, 400).save(tmp_path / "large.png")
    decoded = list[tuple[int, int]]()
    whole = Image.Image.crop
    draws = uniform(0, "test", np.arange(20), slots=SLOTS)

    def crop(self: Image.Image, box: Any = None) -> Image.Image:
        decoded.append(self.size)
        return whole(self, box)

    def view(name: str, draw: Any, size: int) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Image.Image, "crop", crop)
            return part((tmp_path / name).read_bytes(), name, size, (0.9, 1.0), draw).astype(int)

    for draw in draws:
        for size, expected in ((32, (80, 50)), (64, (160, 100)), (150, (320, 200)), (250, (640, 400))):
            decoded.clear()
            pixels = view("large.jpg", draw, size)
            assert decoded == [expected]
            assert abs(pixels - view("large.png", draw, size)).mean() < 3, "the same part, whatever the scale"
            assert np.array_equal(pixels, view("large.jpg", draw, size))
    turned = view("turned.jpg", draws[0], 32)
    assert decoded[-1] == (50, 80)
    with Image.open(tmp_path / "large.png") as image:
        image.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    assert abs(turned - view("upright.png", draws[0], 32)).mean() < 3


def test_a_corrupt_image_is_named(data: Folder) -> None:
    cats = Path(data.train) / "cat"
    (cats / "000.jpg").write_bytes(b"this is no image")
    whole = (cats / "001.png").read_bytes()
    (cats / "001.png").write_bytes(whole[: len(whole) // 2])
    assert any("cat/000.jpg: cannot be read as an image (cannot identify" in words for words in data.problems())
    data = changed(data, selection=data.tests["photos"].path)
    split = data.split("train", SIZE)
    for position, name in ((20, "000.jpg"), (21, "001.png")):
        for read in (split.images, lambda index: split.views(index, np.array(0), 1)):
            with pytest.raises(
                ValueError, match=rf"train/cat/{name}: cannot be read as an image \(.+\); repair or remove it"
            ):
                read(np.array([0, position]))
    (cats / "000.jpg").unlink()
    with pytest.raises(FileNotFoundError):
        split.images(np.array([20]))


def told(data: Folder, **settings: Any) -> str:
    return "\n".join(changed(data, **settings).problems())


def test_problems_are_told_all_at_once(data: Folder, tmp_path: Path) -> None:
    words = told(
        data,
        train="memory://nowhere",
        tests={"train": {"path": str(tmp_path / "nowhere"), "role": "ood"}},
        templates=["a photo", "a {}"],
        scale=[0.9, 0.1],
    )
    assert "data.train: memory://nowhere is missing" in words
    assert "data.train: 'no-such-scheme://x': no-such-scheme:// is not a kind of storage" in told(
        data, train="no-such-scheme://x"
    )
    assert f"data.tests.train.path: {tmp_path / 'nowhere'} is missing" in words
    assert "data.tests.train: the name is taken" in words
    assert "data.templates[0]: 'a photo' has no \"{}\"" in words
    assert "data.scale: [0.9, 0.1] is not a range" in words
    assert "data.templates[1]" not in words


def test_problems_of_settings(data: Folder) -> None:
    assert "data.tests: empty" in told(data, tests={})
    assert "data.templates: empty" in told(data, templates=[])
    words = told(data, classes={"cat": "a cat", "cow": "a cow"})
    assert "data.classes: 'cow' in no class folder" in words
    assert "data.classes: no words for 'brown_bear', 'dog'" in words


def test_problems_of_folders(data: Folder, tmp_path: Path) -> None:
    (tmp_path / "train" / "empty").mkdir()
    (tmp_path / "train" / "notes").mkdir()
    (tmp_path / "train" / "notes" / "readme.txt").write_text("no image")
    assert "class folders with no images ('empty', 'notes'); fill or remove" in told(data)
    shutil.rmtree(tmp_path / "train" / "empty")
    shutil.rmtree(tmp_path / "train" / "notes")
    assert told(data) == ""

    (tmp_path / "flat").mkdir()
    picture(0).save(tmp_path / "flat" / "1.png")
    assert "flat has no class folders" in told(data, train=str(tmp_path / "flat"))
    assert "1.png is not a folder" in told(data, train=str(tmp_path / "flat" / "1.png"))

    strange = {"odd": {"path": plant(tmp_path / "odd", {"cat": 1, "cow": 1}), "role": "ood"}}
    assert "data.tests.odd.path: 'cow' in no class folder of data.train" in told(data, tests=strange)
    with pytest.raises(ValueError, match="'cow' in no class folder"):
        changed(data, tests=strange).split("odd", SIZE)

    same = {"again": {"path": f"{data.train}/.", "role": "id"}}
    assert "is also data.train; every split needs images of its own" in told(data, tests=same)


def test_a_mended_folder_has_no_problems(data: Folder, tmp_path: Path) -> None:
    (tmp_path / "train" / "empty").mkdir()
    assert data.problems() != []
    (tmp_path / "train" / "empty").rmdir()
    assert data.problems() == []
