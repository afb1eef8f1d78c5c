"""What a record costs at ImageNet's size, as multiples of the plain matrix product that it cannot do without.

    python benchmarks/features_at_size.py [--images N] [--encoded N] [--width D] [--seeds S]

Images × atoms without structure: encoding a part of the images and scaling up, one trial's change on all of them, and
tests of all features over seeds. Seconds of the processor; the product is that of the embeddings with all atoms.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from saeft_ray.features.change import change, effect, mass_by_class
from saeft_ray.features.codes import SparseCodes, encode
from saeft_ray.features.testing import assess, live
from saeft_ray.sae import Dictionary
from saeft_ray.settings import DictionarySettings

D_MODEL, K, CHUNK, CLASSES = 512, 32, 512, 1000
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser()
    for option, default in (("--images", 50_000), ("--encoded", 50_000), ("--width", 65_536), ("--seeds", 10)):
        parser.add_argument(option, type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    scale = given.images / given.encoded
    atoms = torch.nn.functional.normalize(torch.randn(given.width, D_MODEL), dim=1)
    dictionary = Dictionary(atoms, atoms, torch.zeros(D_MODEL), DictionarySettings(width=given.width, k=K))
    x = torch.randn(given.encoded, D_MODEL)
    _, product = _timed(lambda: [float((part @ atoms.T)[0, 0]) for part in x.split(CHUNK)])
    codes, encoding = _timed(lambda: encode(dictionary, x.numpy()))
    print(f"product of {given.images} × {given.width}: {product * scale:.1f} s")
    print(f"encode: {encoding * scale:.1f} s, {encoding / product:.2f} times the product ({given.encoded} encoded)")
    assert codes.index.shape == (given.encoded, K)

    r = np.random.default_rng(0)
    frozen, tuned = _codes(r, given.images, given.width), _codes(r, given.images, given.width)
    tuned.index[:, : K * 3 // 4] = frozen.index[:, : K * 3 // 4]
    tuned.value[:, K * 3 // 4 :] *= ~(tuned.index[:, K * 3 // 4 :, None] == frozen.index[:, None]).any(2)
    moved, seconds = _timed(lambda: change(frozen, tuned))
    print(f"change of a trial: {seconds:.2f} s")
    labels = r.integers(0, CLASSES, given.images)
    _, seconds = _timed(lambda: mass_by_class(tuned, labels))
    print(f"its mass by {CLASSES} classes: {seconds:.2f} s")
    left = moved.mass - moved.mass0 - (moved.added + moved.strengthened - moved.weakened - moved.removed)
    print(f"largest error of its identity: {np.abs(left).max():.1g}")

    on = live(moved.on0, given.images)
    on[:] = True  # all of them, the most that there can be
    effects = effect(moved.mass0, moved.mass, on) + 0.05 * r.standard_normal((given.seeds, given.width))
    control = effects.mean(0) + 0.05 * r.standard_normal(effects.shape)
    told, seconds = _timed(lambda: assess(effects, control, on))
    print(f"tests of {given.width} features × {given.seeds} seeds, with control: {seconds:.2f} s")
    _, seconds = _timed(lambda: (told.count("grew"), told.count("shrank"), told.beyond()))
    print(f"counting their verdicts: {seconds:.2f} s")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def _codes(r: np.random.Generator, images: int, width: int) -> SparseCodes:
    """Distinct atoms in each row, as the k largest give them."""
    step = width // K
    index = r.integers(0, width, (images, 1)) + np.arange(K) * step + r.integers(0, step, (images, K))
    return SparseCodes((index % width).astype(np.int32), r.random((images, K), np.float32) + np.float32(1e-3), width)


def _timed(act: Callable[[], T]) -> tuple[T, float]:
    began = time.process_time()
    made = act()
    return made, time.process_time() - began


if __name__ == "__main__":
    main()
