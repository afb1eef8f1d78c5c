"""Does `shortcuts.reliance` tell how much a model relies on a shortcut? In digit world the reliance is known.

    python benchmarks/feature_shortcuts.py [--seeds N] [--epochs N] [--width N]

Trains end points with a cue of different strength and with different penalties, reads each as a sweep reads it, and
correlates the number over trials with the true reliance: the accuracy on digits whose ground is the one that the cue
gives them, less that on the same digits on the other grounds.
"""

import argparse
import tempfile
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from saeft_ray import draws, sae
from saeft_ray.config.sweep_file import parse
from saeft_ray.datasets.digit_world import DigitWorld, splits, styles
from saeft_ray.datasets.digit_world.render import Draw, render
from saeft_ray.features import shortcuts, words
from saeft_ray.features.activity import Floats, activity, born, counts, unit
from saeft_ray.features.codes import encode
from saeft_ray.features.dealt import dealt
from saeft_ray.features.names import names
from saeft_ray.model.encoder import Classifier
from saeft_ray.orchestration import artifacts, trial
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.tuned import clip_of, embeddings, frozen_classifier, tuned_classifier
from saeft_ray.settings import DictionarySettings
from saeft_ray.storage.store import Store
from saeft_ray.training.worker import Worker

SWEEP = """
name: shortcuts
storage: {storage}
model: {{arch: digit-clip, pretrained: shipped}}
data: {{type: digit_world, cue: {cue}}}
train: {{epochs: {epochs}, batch_size: 128, lr: 1e-3, warmup: 0.15}}
dictionary: {{width: 128, k: 8, steps: 300, batch_size: 256, seeds: 1}}
methods:
  ft:
  weak: {{type: mse, lambda_mse: 100}}
  strong: {{type: mse, lambda_mse: 1000}}
  sae_ft: {{lambda_resid: 300, lambda_add: 300}}
report: {{baseline: ft}}
confirm: {{seeds: {seeds}}}
"""
CUES = (0.0, 0.4, 0.8)
SETS = ("R", "Sketch", "ON", "C", "UCI", "A")  # where no cue is
CPU = torch.device("cpu")


class Read(NamedTuple):
    """What trials are read by."""

    sets: dict[str, NDArray[np.float32]]  # frozen embeddings, as they come
    images: shortcuts.Images
    dictionary: sae.Dictionary
    bank: words.Bank
    class_of: NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser()
    for option, default in (("--seeds", 2), ("--epochs", 4), ("--width", 64)):
        parser.add_argument(option, type=int, default=default)
    given = parser.parse_args()
    rows, read = [], None
    for cue in CUES:
        with tempfile.TemporaryDirectory() as storage:
            plan, store = _opened(cue, given.epochs, given.seeds, storage)
            read = read or _reading(plan, store, given.width)
            for spec in plan.confirm(plan.config.methods):
                list(trial.run(plan, spec, store, Worker()))
                model = tuned_classifier(plan, spec, store)
                rows.append((cue, spec.method, true_reliance(model), found(model, read, spec.number)))
                print(f"cue {cue} {spec.method:8} {rows[-1][2]:+.3f} {rows[-1][3]:+.4f}", flush=True)
    true, said = np.array([row[2:] for row in rows]).T
    r, rank = np.corrcoef(true, said)[0, 1], stats.spearmanr(true, said)[0]
    print(f"{len(rows)} trials: r = {r:.2f}, Spearman's {rank:.2f}")


def found(model: Classifier, read: Read, number: int) -> float:
    """The number that a report gives for one trial."""
    before, after, control = [], [], []
    for name, x0 in read.sets.items():
        x = embeddings(model, DigitWorld(cue=0).split(name, 28), CPU)
        for rows, kind in ((before, x0), (after, x), (control, dealt(x0, x, number))):
            rows.append(kind)
    was, now, moved = (_active(read.dictionary, np.concatenate(rows)) for rows in (before, after, control))
    other = np.array([word.label_of is None for word in read.bank.words])
    told = shortcuts.reliance(
        read.images, born(was, now), born(was, moved), counts(was), read.class_of, read.bank.embeddings, other, number
    )
    return told.value


@torch.inference_mode()
def true_reliance(model: Classifier) -> float:
    """Accuracy where the ground agrees with the cue less that where it does not, all digits on all five grounds."""
    members = splits.members("ID")
    draw = Draw(4242, "truth swap", members.example, np.zeros(len(members.labels), np.int64))
    ink = splits.coverage(members.source, members.rows)
    drawn = [render(ink, members.labels, styles.Style((pair,)), draw)[0] for pair in styles.WHITE_PAIRS]
    model = model.eval()
    right = np.stack([model(pictures).logits.argmax(1).numpy() == members.labels for pictures in drawn])
    agrees = members.labels[None] % 5 == np.arange(5)[:, None]
    return float(right[agrees].mean() - right[~agrees].mean())


def _opened(cue: float, epochs: int, seeds: int, storage: str) -> tuple[Plan, Store]:
    config = parse(SWEEP.format(cue=cue, epochs=epochs, seeds=seeds, storage=storage))
    plan, store = Plan(config, find_facts(config)), Store(storage)
    for artifact in plan.artifacts():
        artifacts.ensure(artifact, plan, store, CPU)
    return plan, store


def _reading(plan: Plan, store: Store, width: int) -> Read:
    frozen = frozen_classifier(plan, store)
    made = {name: DigitWorld(cue=0).split(name, 28) for name in SETS}
    sets = {name: embeddings(frozen, split, CPU) for name, split in made.items()}
    x = np.concatenate(list(sets.values()))
    settings = DictionarySettings(width=width, k=8, steps=1500, batch_size=512)
    dictionary = sae.train(np.ascontiguousarray(x[:, None]), settings, draws.seed_of("reader"), CPU)
    more = (*styles.INKS, *styles.GROUNDS, *styles.TEXTURES[1:], *styles.STROKES[1:])
    bank = words.bank(clip_of(plan), styles.DIGITS, more)
    images = shortcuts.Images(
        unit(x),
        np.concatenate([split.labels for split in made.values()]),
        np.repeat(np.arange(len(SETS)), [len(split.labels) for split in made.values()]),
    )
    return Read(sets, images, dictionary, bank, _class_of(images.x, _active(dictionary, x), bank))


def _class_of(x: Floats, active: object, bank: words.Bank) -> NDArray[np.int64]:
    told = names(x, active, bank.embeddings, seed=0)
    classes = np.array([-1 if word.label_of is None else word.label_of for word in bank.words])
    return np.where(told.named, classes[told.words[:, 0]], -1)


def _active(dictionary: sae.Dictionary, x: NDArray[np.float32]) -> object:
    codes = encode(dictionary, x)
    return activity(codes.index, codes.value, codes.width)


if __name__ == "__main__":
    main()
