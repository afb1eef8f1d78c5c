"""ImageNet and its shifts in miniature, in the layouts in which they are published: real JPEG and PNG files."""

import json
from pathlib import Path

import numpy as np
import open_clip
from PIL import Image

from saeft_ray.datasets.images.imagenet_classes import synsets

# tench, goldfish, hammerhead, cock, hen | analog clock, digital clock, backpack, banana
WNIDS = tuple(synsets()[i] for i in (0, 1, 4, 7, 8, 409, 530, 414, 954))
OBJECTS = {"alarm_clock": ("Alarm clock", (409, 530)), "backpack": ("Backpack", (414,)), "banana": ("Banana", (954,))}


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """Smooth colours, so that JPEG and resizing keep them."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)


def plant(root: Path, train: int = 6, test: int = 2, wnids: tuple[str, ...] = WNIDS, width: int = 40) -> dict[str, str]:
    """All sets below `root`, `train` and `test` images a class; their settings as `data:` takes them."""
    seed = 0

    def images(folder: Path, names: list[str], border: int = 0) -> None:
        nonlocal seed
        folder.mkdir(parents=True)
        for name in names:
            seed += 1
            image = picture(seed, width + seed % 7, width * 3 // 4 + seed % 5)
            if border:
                framed = Image.new("RGB", (image.width + 2 * border, image.height + 2 * border), (255, 0, 0))
                framed.paste(image, (border, border))
                image = framed
            image.save(folder / name, quality=90)

    for wnid in wnids:
        images(root / "train" / wnid, [f"{wnid}_{i}.JPEG" for i in range(train)])
        images(root / "val" / wnid, [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(test)])
        images(root / "v2" / str(synsets().index(wnid)), [f"{i:040x}.jpeg" for i in range(test)])
        images(root / "sketch" / wnid, [f"sketch_{i}.JPEG" for i in range(test)])
        images(root / "c" / "gaussian_noise" / "3" / wnid, [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(test)])
    for letter, name in (("r", "art_{}.jpg"), ("a", "0.0{}_fox _ fox_0.1.jpg")):
        for wnid in set(wnids) & set(synsets(f"imagenet_{letter}_synsets")):
            images(root / letter / wnid, [name.format(i) for i in range(test)])
    objects = {f: (label, ids) for f, (label, ids) in OBJECTS.items() if {synsets()[i] for i in ids} <= set(wnids)}
    for folder in [*objects, "squeegee"]:  # the last is no class of ImageNet
        images(root / "objectnet" / "images" / folder, [f"{i:015x}.png" for i in range(test)], border=2)
    mappings = root / "objectnet" / "mappings"
    mappings.mkdir()
    line = [(371 * i + 5) % 1000 for i in range(1000)]  # of each label
    names = [""] * 1000
    for label, at in enumerate(line):
        names[at] = f"name {label}, another name of {label}"
    (mappings / "imagenet_to_label_2012_v2").write_text("\n".join(names) + "\n")
    (mappings / "pytorch_to_imagenet_2012_id.json").write_text(json.dumps({str(i): at for i, at in enumerate(line)}))
    labels = {folder: label for folder, (label, _) in objects.items()} | {"squeegee": "Squeegee"}
    (mappings / "folder_to_objectnet_label.json").write_text(json.dumps(labels))
    overlap = {label: "; ".join(names[line[i]] for i in ids) for label, ids in objects.values()}
    (mappings / "objectnet_to_imagenet_1k.json").write_text(json.dumps(overlap))
    sets = {name: str(root / name) for name in ("train", "val", "v2", "r", "a", "sketch", "objectnet")}
    return {name: path for name, path in sets.items() if Path(path).is_dir()}


def tiny(folder: Path) -> str:
    """A CLIP model of ViT-B/32's kind, shrunk, with the tokens of the large one."""
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (folder / "tiny-vit.json").write_text(json.dumps({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder / "tiny-vit.json")
    return "tiny-vit"
