"""Transfer sets in the layouts that torchvision and WILDS read, with honest splits; macro-F1 and the worst region."""

import csv
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from saeft_ray.config.schema import DATASETS
from saeft_ray.datasets import NotSeen
from saeft_ray.datasets.images.parts import Tabled
from saeft_ray.datasets.images.sharding import shard
from saeft_ray.datasets.torchvision import Torchvision
from saeft_ray.datasets.wilds import Wilds, WorstRegion, macro_f1
from saeft_ray.records.read import read_rows

import sweeps
from imagenet_trees import picture, tiny

SIZE = 16


def jpeg(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path)


def cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten training and four test images in the batches of the Python version; their MD5 cannot be the published one."""
    import torchvision.datasets.cifar as module

    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        count = 4 if name == "test_batch" else 6
        pixels = np.random.default_rng(number).integers(0, 256, (count, 3072), np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [i % 2 for i in range(count)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile"]}))
    monkeypatch.setattr(module, "check_integrity", lambda *_: True)
    monkeypatch.setattr(module.CIFAR10, "_check_integrity", lambda _: True)


def stl10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import STL10

    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for name, count in (("train", 10), ("test", 4)):
        np.random.default_rng(count).integers(0, 256, (count, 3, 96, 96), np.uint8).tofile(folder / f"{name}_X.bin")
        (1 + np.arange(count, dtype=np.uint8) % 2).tofile(folder / f"{name}_y.bin")
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    monkeypatch.setattr(STL10, "_check_integrity", lambda _: True)


def dtd(root: Path, _: Any) -> None:
    for number, split in enumerate(("train", "val", "test")):
        lines = [f"{name}/{name}_{number}{i:03d}.jpg" for name in ("banded", "woven") for i in range(2)]
        for i, line in enumerate(lines):
            jpeg(root / "dtd" / "dtd" / "images" / line, 10 * number + i)
        labels = root / "dtd" / "dtd" / "labels" / f"{split}1.txt"
        labels.parent.mkdir(exist_ok=True)
        labels.write_text("\n".join(lines) + "\n")


def caltech101(root: Path, _: Any) -> None:
    for name in ("BACKGROUND_Google", "ant", "sea_horse"):
        for i in range(1, 6):
            jpeg(root / "caltech101" / "101_ObjectCategories" / name / f"image_{i:04d}.jpg", i)


def eurosat(root: Path, _: Any) -> None:
    for name in ("AnnualCrop", "SeaLake"):
        for i in range(5):
            jpeg(root / "eurosat" / "2750" / name / f"{name}_{i}.jpg", i)


def flowers102(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import Flowers102

    folder = root / "flowers-102"
    for i in range(1, 13):
        jpeg(folder / "jpg" / f"image_{i:05d}.jpg", i)
    scipy.io.savemat(folder / "setid.mat", {"trnid": [1, 2, 3, 4], "valid": [5, 6, 7, 8], "tstid": [9, 10, 11, 12]})
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": [1, 2] * 6})
    monkeypatch.setattr(Flowers102, "_check_integrity", lambda _: True)


def stanford_cars(root: Path, _: Any) -> None:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    kind = [("fname", "O"), ("class", "O")]
    for split, file, count in (
        ("train", folder / "devkit" / "cars_train_annos.mat", 8),
        ("test", folder / "cars_test_annos_withlabels.mat", 4),
    ):
        for i in range(count):
            jpeg(folder / f"cars_{split}" / f"{i:05d}.jpg", i)
        annotations = np.array([(f"{i:05d}.jpg", 1 + i % 2) for i in range(count)], kind)
        scipy.io.savemat(file, {"annotations": annotations})
    scipy.io.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi TT", "BMW M3"], object)})


def aircraft(root: Path, _: Any) -> None:
    folder = root / "fgvc-aircraft-2013b" / "data"
    for number, split in enumerate(("train", "val", "test")):
        names = [f"{number}{i:06d}" for i in range(4)]
        for i, name in enumerate(names):
            jpeg(folder / "images" / f"{name}.jpg", i)
        lines = [f"{name} {('A300', 'Boeing 717')[i % 2]}" for i, name in enumerate(names)]
        (folder / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")
    (folder / "variants.txt").write_text("A300\nBoeing 717\n")


def pets(root: Path, _: Any) -> None:
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    for split, first, last in (("trainval", 0, 6), ("test", 6, 8)):
        lines = []
        for i in range(first, last):
            for label, name in ((1, "Abyssinian"), (2, "american_bulldog")):
                jpeg(folder / "images" / f"{name}_{i}.jpg", i)
                lines.append(f"{name}_{i} {label} 1 1")
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")


SETS = {
    "CIFAR10": (cifar10, (24, 6, 4), ["airplane", "automobile"]),
    "STL10": (stl10, (8, 2, 4), ["airplane", "bird"]),
    "DTD": (dtd, (4, 4, 4), ["banded", "woven"]),
    "Caltech101": (caltech101, (6, 2, 2), ["ant", "sea horse"]),
    "Flowers102": (flowers102, (4, 4, 4), None),
    "StanfordCars": (stanford_cars, (6, 2, 4), ["Audi TT", "BMW M3"]),
    "FGVCAircraft": (aircraft, (4, 4, 4), ["A300", "Boeing 717"]),
    "OxfordIIITPet": (pets, (10, 2, 4), ["Abyssinian", "American Bulldog"]),
    "EuroSAT": (eurosat, (6, 2, 2), ["AnnualCrop", "SeaLake"]),
}


@pytest.mark.parametrize("name", SETS)
def test_torchvision_sets_have_honest_splits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, counts, names = SETS[name]
    make(tmp_path, monkeypatch)
    data = Torchvision.model_validate({"name": name, "root": str(tmp_path), "expect": "none", "selection_share": 0.18})
    assert data.problems() == []
    assert data.test_sets() == {"test": "id"}
    assert data.sizes() == dict(zip(("train", "selection", "test"), counts, strict=True))
    assert names is None or list(data.class_names()) == names
    contents: list[set[bytes]] = []
    for split_name, count in data.sizes().items():
        split = data.split(split_name, SIZE)
        assert set(split.labels.tolist()) == {0, 1}
        assert split.images(np.arange(count)).shape == (count, 3, SIZE, SIZE)
        contents.append({split.file(i).encode() for i in range(count)} if name not in ("CIFAR10", "STL10") else set())
    train, selection, test = contents
    assert not train & selection | train & test | selection & test
    again = Torchvision.model_validate(data.model_dump())
    assert (again.fingerprint(), again.train_fingerprint()) == (data.fingerprint(), data.train_fingerprint())
    wanting = "\n".join(Torchvision.model_validate(data.model_dump() | {"expect": "published"}).problems())
    assert "were published; complete it, or say `expect: none`" in wanting


def test_torchvision_images_are_the_datasets_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import image_transform
    from torchvision.datasets import CIFAR10

    cifar10(tmp_path, monkeypatch)
    data = Torchvision.model_validate({"name": "CIFAR10", "root": str(tmp_path), "expect": "none"})
    transform = image_transform(SIZE, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    theirs = [(transform(image), label) for image, label in CIFAR10(str(tmp_path), train=False)]
    split = data.split("test", SIZE)
    assert split.labels.tolist() == [label for _, label in theirs]
    expected = torch.stack([(image * 255).round().to(torch.uint8) for image, _ in theirs])
    assert torch.equal(split.images(np.arange(4)), expected)


def test_cifar_has_shifted_test_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar10(tmp_path, monkeypatch)
    pixels, labels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8), np.arange(20) % 2
    np.save(tmp_path / "cifar10.1_v6_data.npy", pixels[:6])
    np.save(tmp_path / "cifar10.1_v6_labels.npy", labels[:6].astype(np.int32))
    np.savez(tmp_path / "cifar102_test.npz", images=pixels[6:10], labels=labels[6:10])
    np.save(tmp_path / "fog.npy", pixels)  # five severities of four images
    np.save(tmp_path / "labels.npy", labels)
    more = {
        "cifar10_1": str(tmp_path),
        "cifar10_2": str(tmp_path / "cifar102_test.npz"),
        "cifar_c": {"path": str(tmp_path), "corruptions": ["fog"], "severities": [1, 5]},
    }
    data = Torchvision.model_validate({"name": "CIFAR10", "root": str(tmp_path), "expect": "none", **more})
    assert data.problems() == []
    assert data.test_sets() == {"test": "id"} | dict.fromkeys(("CIFAR-10.1", "CIFAR-10.2", "C-fog-1", "C-fog-5"), "ood")
    rows_of = {"CIFAR-10.1": slice(6), "CIFAR-10.2": slice(6, 10), "C-fog-1": slice(4), "C-fog-5": slice(16, 20)}
    for name, rows in rows_of.items():
        split = data.split(name, 32)
        assert split.labels.tolist() == labels[rows].tolist()
        images = split.images(np.arange(len(split.labels)))
        assert torch.equal(images.permute(0, 2, 3, 1), torch.from_numpy(pixels[rows]))
    plain = Torchvision.model_validate({"name": "CIFAR10", "root": str(tmp_path), "expect": "none"})
    assert plain.train_fingerprint() == data.train_fingerprint()
    np.save(tmp_path / "labels.npy", labels[:3])
    assert "fog.npy: found uint8 (4, 32, 32, 3) images and 3 labels" in "\n".join(data.problems())
    wrong = Torchvision.model_validate({"name": "CIFAR100", "root": str(tmp_path), **more})
    assert "cifar10_1 and cifar10_2 are not test sets of CIFAR100" in "\n".join(wrong.problems())


def test_what_torchvision_does_not_find_is_told(tmp_path: Path) -> None:
    missing = Torchvision.model_validate({"name": "Caltech101", "root": str(tmp_path)})
    (words,) = missing.problems()
    assert isinstance(words, NotSeen)
    assert f"data: root: {tmp_path}/caltech101 is missing" in words
    assert list(tmp_path.iterdir()) == [], "torchvision would have made the folder"
    assert missing.sizes() == {"train": 5206, "selection": 1735, "test": 1735}
    assert len(missing.class_names()) == 101
    (words,) = Torchvision.model_validate({"name": "DTD", "root": str(tmp_path)}).problems()
    assert words == f"data: root: torchvision finds no DTD in {tmp_path}: Dataset not found."
    assert "is a URL" in Torchvision.model_validate({"name": "DTD", "root": "s3://x/y"}).problems()[0]
    for name, sizes in (("CIFAR10", (45_000, 5_000, 10_000)), ("DTD", (1_880, 1_880, 1_880))):
        data = Torchvision.model_validate({"name": name, "root": str(tmp_path / "nowhere")})
        assert tuple(data.sizes().values()) == sizes


# WILDS -----------------------------------------------------------------------------------------------------------


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def iwildcam(root: Path) -> None:
    rows = []
    for number, (split, count) in enumerate((("train", 4), ("id_val", 2), ("id_test", 2), ("val", 2), ("test", 3))):
        for i in range(count):
            name = f"{number}{i}.jpg"
            jpeg(root / "train" / name, 10 * number + i)
            rows.append({"split": split, "location_remapped": number, "filename": name, "y": i % 3})
    table(root / "metadata.csv", rows)
    names = ("empty", "tayassu pecari", "dasyprocta punctata")
    table(root / "categories.csv", [{"y": y, "category_id": 10 + y, "name": name} for y, name in enumerate(names)])


def fmow(root: Path) -> None:
    rows = [
        ("train", "zoo", "FRA", "2010-05-01T10:00:00Z"),
        ("train", "airport", "FRA", "2014-05-01T10:00:00Z"),  # neither early nor late
        ("seq", "zoo", "FRA", "2010-05-01T10:00:00Z"),
        ("train", "airport", "KEN", "2012-12-31T23:59:59Z"),
        ("val", "zoo", "FRA", "2011-01-01T00:00:00Z"),
        ("test", "airport", "KEN", "2011-01-01T00:00:00Z"),
        ("test", "zoo", "FRA", "2016-01-01T00:00:00Z"),
        ("test", "airport", "KEN", "2017-01-01T00:00:00Z"),
        ("test", "zoo", "XYZ", "2017-01-01T00:00:00Z"),
        ("val", "zoo", "FRA", "2014-01-01T00:00:00Z"),  # WILDS's OOD validation: not ours to use
    ]
    for i, row in enumerate(rows):
        if row[0] != "seq":
            path = root / "images" / f"rgb_img_{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(i, 20, 20).save(path)
    keys = ("split", "category", "country_code", "timestamp")
    table(root / "rgb_metadata.csv", [dict(zip(keys, row, strict=True)) for row in rows])
    regions = [{"alpha-3": "FRA", "region": "Europe"}, {"alpha-3": "KEN", "region": "Africa"}]
    table(root / "country_code_mapping.csv", regions)


def test_iwildcam_from_files_and_from_shards(tmp_path: Path) -> None:
    folder, shards = tmp_path / "iwildcam_v2.0", tmp_path / "shards"
    iwildcam(folder)
    shard(str(folder), str(shards), 2_000)
    for name in ("metadata.csv", "categories.csv"):
        (shards / name).write_bytes((folder / name).read_bytes())
    one, other = (Wilds(name="iwildcam", root=str(root), expect="none") for root in (folder, shards))
    for data in (one, other):
        assert data.problems() == []
        assert data.sizes() == {"train": 4, "selection": 2, "id_test": 2, "ood_test": 3}
        assert list(data.class_names()) == ["empty", "tayassu pecari", "dasyprocta punctata"]
    assert one.fingerprint() == other.fingerprint()
    for name, count in one.sizes().items():
        ours, theirs = one.split(name, SIZE), other.split(name, SIZE)
        assert ours.labels.tolist() == theirs.labels.tolist() == [i % 3 for i in range(count)]
        assert torch.equal(ours.images(np.arange(count)), theirs.images(np.arange(count)))
    assert one.split("ood_test", SIZE).extra_metrics(np.array([0, 0, 2])) == {
        "macro_f1": pytest.approx((2 / 3 + 0 + 1) / 3)
    }
    broken = folder / "train" / "11.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:50])
    assert one.problems()[0].startswith(f"data: {broken}: cannot be read as an image")
    broken.write_bytes(whole)
    (folder / "train" / "01.jpg").unlink()
    assert "the metadata names 'train/01.jpg', which is missing" in "\n".join(one.problems())
    nowhere = Wilds(name="iwildcam", root=str(tmp_path / "nowhere"))
    (words,) = nowhere.problems()
    assert (nowhere.fingerprint(), nowhere.train_fingerprint(), len(nowhere.class_names())) == (
        "not seen",
        "not seen",
        182,
    )
    assert isinstance(words, NotSeen)
    assert Wilds(name="iwildcam", root=str(tmp_path / "nowhere")).sizes()["ood_test"] == 42_791


def test_metrics_of_the_authors_become_rows(tmp_path: Path) -> None:
    iwildcam(tmp_path / "iwildcam")
    config = sweeps.config(
        tmp_path / "runs",
        model={"arch": tiny(tmp_path), "pretrained": "random"},
        data={"type": "wilds", "name": "iwildcam", "root": str(tmp_path / "iwildcam"), "expect": "none"},
        train={"epochs": 1, "batch_size": 4, "lr": 1e-4},
        methods={"zero_shot": {}, "ft": {}},
        confirm={"seeds": 1},
    )
    _, ledger, _ = sweeps.run_here(config)
    rows = read_rows(ledger.url).to_pylist()
    found = {(row["method"], row["dataset"]): row["value"] for row in rows if row["metric"] == "macro_f1"}
    assert found.keys() == {
        (method, name) for method in ("zero_shot", "ft") for name in ("selection", "id_test", "ood_test")
    }
    assert all(0 <= value <= 1 for value in found.values())


def test_macro_f1_is_that_of_scikit_learn_over_the_classes_that_occur() -> None:
    from sklearn.metrics import f1_score

    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 5, 200), generator.integers(0, 8, 200)
    expected = f1_score(labels, predicted, average="macro", labels=np.unique(labels))
    assert macro_f1(predicted, labels)["macro_f1"] == pytest.approx(expected)


def test_fmow_splits_by_time_and_has_a_worst_region(tmp_path: Path) -> None:
    fmow(tmp_path)
    data = Wilds(name="fmow", root=str(tmp_path), expect="none")
    assert data.problems() == []
    assert data.sizes() == {"train": 2, "selection": 1, "id_test": 1, "ood_test": 3}
    assert list(data.class_names()) == ["airport", "zoo"]
    train, ood = data.split("train", SIZE), data.split("ood_test", SIZE)
    assert [Path(train.file(i)).name for i in range(2)] == ["rgb_img_0.png", "rgb_img_3.png"]
    assert (train.labels.tolist(), ood.labels.tolist()) == ([1, 0], [1, 0, 1])
    assert torch.equal(ood.images(np.array([0]))[0].permute(1, 2, 0), torch.from_numpy(resized(tmp_path, 6)))
    assert ood.extra_metrics(np.array([1, 1, 0])) == {"worst_region_accuracy": 0.0}  # Africa
    assert ood.extra_metrics(np.array([1, 0, 0])) == {"worst_region_accuracy": 1.0}, "the region Other does not count"
    assert WorstRegion(np.array(["A", "A", "B"]))(np.array([0, 1, 1]), np.array([0, 0, 1])) == {
        "worst_region_accuracy": 0.5
    }
    table(tmp_path / "country_code_mapping.csv", [{"code": "FRA", "region": "Europe"}])
    assert "country_code_mapping.csv: has no column 'alpha-3'; it has code, region" in "\n".join(data.problems())


def resized(root: Path, i: int) -> Any:
    with Image.open(root / "images" / f"rgb_img_{i}.png") as image:
        return np.array(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def test_the_families_are_found() -> None:
    assert {"digit_world", "folder", "imagenet", "torchvision", "wilds"} == set(DATASETS)
    assert all(issubclass(DATASETS[name], Tabled) for name in ("torchvision", "wilds"))
