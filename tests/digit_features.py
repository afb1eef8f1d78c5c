"""Digit world's frozen embeddings with the truth of what every image shows, for the tests of names."""

from functools import lru_cache

import numpy as np
import torch

from saeft_ray import sae
from saeft_ray.datasets.digit_world import DigitWorld, splits, styles
from saeft_ray.datasets.digit_world.render import Draw, render
from saeft_ray.features.activity import activity
from saeft_ray.model import encoder, zero_shot
from saeft_ray.settings import DictionarySettings, Model

SETS = ("selection", "ID", "V2", "R", "Sketch", "ON", "C", "UCI", "A")
MORE = (*styles.INKS, *styles.GROUNDS, *styles.TEXTURES[1:], *styles.STROKES[1:])


@lru_cache(maxsize=1)
def model():
    return encoder.load(Model(arch="digit-clip", pretrained="shipped"))


@torch.no_grad()
def embeddings(pictures, classifier=None):
    if classifier is None:
        classifier = model().classifier(zero_shot.zero_shot_head(model(), styles.DIGITS, ("a photo of a {}",)))
    classifier.eval()
    x = torch.cat([classifier.embed(part) for part in torch.split(pictures, 512)]).numpy()
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def pictures(names=SETS, cue=0.8):
    made = [DigitWorld(cue=cue).split(name, 28) for name in names]
    return torch.cat([split.images(np.arange(len(split.labels))) for split in made]), [s.labels for s in made]


@lru_cache(maxsize=1)
def evaluation():
    """(N, d) unit embeddings of all evaluation sets: what a user has."""
    return embeddings(pictures()[0])


@lru_cache(maxsize=1)
def truth():
    """(N, d) unit embeddings of test digits in every style, with factors that are independent, and what each shows:
    a name and a column (N,) for each concept."""
    members = splits.members("ID")
    drawn, shows, labels = [], [], []
    for view in (0, 1):
        draw = Draw(4242, "truth", members.example, np.full(len(members.labels), view, np.int64))
        picture, has = render(splits.coverage(members.source, members.rows), members.labels, styles.BROAD, draw)
        drawn.append(picture)
        shows.append(has)
        labels.append(members.labels)
    columns = {word: np.concatenate(labels) == i for i, word in enumerate(styles.DIGITS)}
    attributes = {"ink": styles.INKS, "ground": styles.GROUNDS, "texture": styles.TEXTURES, "stroke": styles.STROKES}
    for field, values in attributes.items():
        columns |= {word: np.concatenate([getattr(s, field) for s in shows]) == i for i, word in enumerate(values)}
    return embeddings(torch.cat(drawn)), columns


def dictionaries(x, seed, width=64, steps=1500):
    settings = DictionarySettings(width=width, k=8, steps=steps, batch_size=512)
    rows = np.ascontiguousarray(x[:, None].astype(np.float32))
    mean = x.mean(0)
    _, _, axes = np.linalg.svd(x - mean, full_matrices=False)
    return {
        "trained": sae.train(rows, settings, seed, torch.device("cpu")),
        "random": sae.random(rows, settings, seed),
        "pca": both_signs(axes, mean),
        "neurons": both_signs(np.eye(x.shape[1]), mean),
    }


def both_signs(directions, mean):
    """Directions (K, d) read without competition, both signs: k is their number, so that no top k acts."""
    atoms = torch.from_numpy(np.concatenate([directions, -directions]).astype(np.float32))
    settings = DictionarySettings(width=len(atoms), k=len(directions))
    return sae.Dictionary(atoms.clone(), atoms, torch.from_numpy(mean.astype(np.float32)), settings)


@torch.no_grad()
def active(dictionary, x):
    """(N, D) sparse activity."""
    given = torch.from_numpy(x.astype(np.float32))
    codes = dictionary.encode(dictionary.read(given)).codes.numpy()
    index = np.broadcast_to(np.arange(codes.shape[1]), codes.shape)
    return activity(index, codes, codes.shape[1])
