"""Cost of an SAE-FT step over a plain step: with stored activations, and with the frozen encoder in every step.

    python benchmarks/step.py [digit-clip|ViT-B-32] [--rounds N] [--batch B] [--switches]

With `--switches`, of a plain step with each switch that makes it fit a GPU, and on a GPU its memory at the peak.
Steps of all kinds are interleaved, so that other load on the machine meets all of them; the ratio is of medians.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from saeft_ray import sae
from saeft_ray.methods.baselines import FineTuning
from saeft_ray.methods.sae_ft import SaeFT
from saeft_ray.model import encoder
from saeft_ray.settings import DictionarySettings, Model, Train
from saeft_ray.training.loop import Task, finetune
from saeft_ray.training.worker import Worker


class Pictures:
    """One batch of random images; a view is the image itself."""

    example_order = "random"

    def __init__(self, n: int, size: int):
        self.labels = np.arange(n) % 10
        self._images = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8)

    def images(self, index):
        return self._images[torch.from_numpy(index)]

    def views(self, index, view, seed):
        return self.images(index)


def medians(
    steps: Mapping[str, Iterator[object]], rounds: int, peaks: dict[str, int] | None = None
) -> dict[str, float]:
    """Median seconds of a step of each kind, all of them interleaved; two rounds to warm up are left out. `peaks`
    receives the most bytes that a step of each kind held on a GPU beside what all of them hold between steps."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 2):
        for name, kind in steps.items():
            if torch.cuda.is_available():
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                held = torch.cuda.memory_allocated()
            began = time.perf_counter()
            next(kind)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - began)
            if peaks is not None and torch.cuda.is_available():
                peaks[name] = torch.cuda.max_memory_allocated() - held
    return {name: statistics.median(values[2:]) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("arch", nargs="?", default="digit-clip")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--switches", action="store_true")
    options = parser.parse_args()
    small = options.arch == "digit-clip"
    batch = options.batch or (128 if small else 8)
    model = encoder.load(Model(arch=options.arch, pretrained="shipped" if small else "random"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    head = torch.randn(10, encoder.width(Model(arch=options.arch, pretrained="random")))
    pictures = Pictures(batch, model.image_size)
    plain = Task(pictures, 0, 1, Train(epochs=options.rounds + 2, batch_size=batch), FineTuning(), 0, None, None)
    print(f"{options.arch}, batch {batch}, {options.rounds} rounds, {torch.get_num_threads()} threads, {device.type}")
    if options.switches:
        places = {
            "plain": Worker(device),
            "precision: bf16": Worker(device),
            "accumulate: 4": Worker(device, accumulate=4),
            "checkpoint_activations: true": Worker(device, checkpoint_activations=True),
            "compile: true": Worker(device, compile=True),
        }
        show(
            {
                name: iter(finetune(model.classifier(head, "bf16" if "bf16" in name else "fp32"), plain, worker))
                for name, worker in places.items()
            },
            options.rounds,
        )
        return
    frozen = model.classifier(head).requires_grad_(False)
    with torch.no_grad():
        activations = frozen.embed(pictures.images(np.arange(batch)))[:, None].numpy()
    d = activations.shape[2]
    dictionary = sae.random(activations, DictionarySettings(width=4 * d, k=8 if small else 32), 0)
    method = SaeFT(lambda_resid=300.0, lambda_add=300.0, lambda_remove=300.0)
    kinds = {
        "plain": plain,
        "stored activations": plain._replace(method=method, frozen=activations, dictionary=dictionary),
        "frozen encoder": plain._replace(method=method, frozen=frozen, dictionary=dictionary),
    }
    # With one batch of images an epoch is one step.
    show(
        {name: iter(finetune(model.classifier(head), task, Worker(device))) for name, task in kinds.items()},
        options.rounds,
    )


def show(steps: Mapping[str, Iterator[object]], rounds: int) -> None:
    """Prints the median of each kind, and over that of a plain step."""
    peaks: dict[str, int] = {}
    median = medians(steps, rounds, peaks)
    for name, value in median.items():
        peak = f"   peak {peaks[name] / 1e9:.2f} GB" if name in peaks else ""
        print(f"{name:28s} {1e3 * value:9.1f} ms   ratio {value / median['plain']:.3f}{peak}")


if __name__ == "__main__":
    main()
