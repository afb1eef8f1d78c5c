"""Tiny folders of images for the tests: three classes whose brightness tells them apart."""

import numpy as np
from PIL import Image

import sweeps

WORDS = {"n1": "zero", "n2": "one", "n3": "seven"}
_ROLES = {"photos": "id", "fog": "ood", "night": "ood"}


def pictures(folder, seed, each=8):
    """Class folders of noise, whose brightness tells the class."""
    draws = np.random.default_rng(seed)
    for number, name in enumerate(WORDS):
        (folder / name).mkdir(parents=True)
        for k in range(each):
            shade = draws.integers(0, 100, (28, 28, 3)) + 70 * number
            Image.fromarray(shade.astype(np.uint8)).save(folder / name / f"{k}.png")
    return str(folder)


def images_in(folder):
    """A folder of class folders for training, and one for each test set, by name."""
    return {name: pictures(folder / name, seed) for seed, name in enumerate(("train", *_ROLES))}


def sections(images, sets=("photos", "fog")):
    """The sections `data` and `train` of a sweep on `images`."""
    tests = {name: {"path": images[name], "role": _ROLES[name]} for name in sets}
    data = {"type": "folder", "train": images["train"], "tests": tests, "selection_share": 0.25, "classes": WORDS}
    return {"data": data, "train": {**sweeps.SMALL["train"], "batch_size": 6}}
