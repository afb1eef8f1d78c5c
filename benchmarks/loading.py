"""Images a second by stage: read, decode, resize, batch; from a folder, from tar shards, and what bounds it.

    python benchmarks/loading.py [--images N] [--size S] [--edge PIXELS] [--place FOLDER_OR_SHARDS]

Without --place it writes JPEGs of ImageNet's usual shape into a temporary folder and shards them. Each stage takes the
same images, in one thread; `view` is all of them together, `batch` the same with the threads of one process. Files come
from the page cache: a cold disk or network is slower, and then bounds what `read` says.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from saeft_ray.datasets.images.decode import SLOTS, part
from saeft_ray.datasets.images.files import Samples
from saeft_ray.datasets.images.find import find
from saeft_ray.datasets.images.sharding import shard
from saeft_ray.datasets.images.split import CorruptFiles, FileSplit, Views
from saeft_ray.draws import uniform


def plant(root: Path, count: int, edge: int) -> None:
    """JPEGs of `edge` × 3/4 `edge` pixels with detail at every scale, about as large as ImageNet's."""
    rng = np.random.default_rng(0)
    for i in range(count):
        layers = []
        for coarse in (8, 64, edge // 2):
            noise = rng.integers(0, 256, (coarse * 3 // 4, coarse, 3), np.uint8)
            layers.append(
                np.asarray(Image.fromarray(noise).resize((edge, edge * 3 // 4), Image.Resampling.BICUBIC), float)
            )
        pixels = (0.5 * layers[0] + 0.3 * layers[1] + 0.2 * layers[2]).astype(np.uint8)
        folder = root / f"class_{i % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i:05d}.JPEG", quality=90)


def rate(stage: Callable[[int], object], count: int) -> float:
    """Images a second; the first few warm up."""
    for i in range(min(8, count)):
        stage(i)
    began = time.perf_counter()
    for i in range(count):
        stage(i)
    return count / (time.perf_counter() - began)


def stages(samples: Samples, size: int) -> dict[str, float]:
    count = len(samples.files)
    order = np.random.default_rng(1).permutation(count)  # as training reads
    data = [samples.read(int(i)) for i in order]
    decoded = [Image.open(BytesIO(each)).convert("RGB") for each in data[:64]]
    draws = uniform(0, "benchmark", np.arange(count), slots=SLOTS)
    views = Views(scale=(0.9, 1.0), flip=False)
    split = FileSplit(samples, np.arange(count), np.zeros(count, np.int64), size, views, CorruptFiles())

    def batches() -> float:
        batch = min(64, count)
        began = time.perf_counter()
        for start in range(0, count - batch + 1, batch):
            split.views(order[start : start + batch], np.zeros(batch, np.int64), 0)
        return (count // batch) * batch / (time.perf_counter() - began)

    split.views(order[:8], np.zeros(8, np.int64), 0)
    return {
        "read": rate(lambda i: samples.read(int(order[i])), count),
        "decode": rate(lambda i: Image.open(BytesIO(data[i])).convert("RGB"), count),
        "resize": rate(lambda i: decoded[i % 64].resize((size, size), Image.Resampling.BICUBIC), count),
        "view": rate(lambda i: part(data[i], "", size, views.scale, draws[i]), count),
        "batch": batches(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--edge", type=int, default=500)
    parser.add_argument("--place")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = {"place": options.place}
        if not options.place:
            plant(Path(folder, "images"), options.images, options.edge)
            shard(f"{folder}/images", f"{folder}/shards", 50_000_000)
            places = {"folder": f"{folder}/images", "shards": f"{folder}/shards"}
        found = {}
        for name, place in places.items():
            samples = find(str(place))
            found[name] = stages(samples, options.size)
            mean = np.mean(samples.sizes) / 1e3
    cores = os.cpu_count() or 1
    print(f"{options.images} JPEGs of {mean:.0f} kB, {options.edge} px wide, views of {options.size} px, {cores} cores")
    print(f"{'images/s':10s}" + "".join(f"{name:>12s}" for name in found))
    for stage in next(iter(found.values())):
        print(f"{stage:10s}" + "".join(f"{rates[stage]:12,.0f}" for rates in found.values()))
    for name, rates in found.items():
        slowest = min(("read", "decode", "resize"), key=lambda stage: rates[stage])
        speedup = rates["batch"] / (1 / (1 / rates["read"] + 1 / rates["view"]))
        print(
            f"{name}: bound by {slowest}; a process gets {speedup:.1f} times one thread; 1,000 images/s need about "
            f"{1000 * (1 / rates['read'] + 1 / rates['view']):.1f} cores"
        )


if __name__ == "__main__":
    main()
