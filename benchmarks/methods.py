"""Cost of a step of each method over a plain step, as a Markdown table.

    python benchmarks/methods.py [digit-clip|ViT-B-32] [--rounds N] [--batch B] [--only METHOD ...]

Steps of all methods are interleaved, so that other load on the machine meets all of them; the ratio is of medians.
Monitors, which cost a few passes an epoch, are left out. Penalties on features read stored activations.
"""

import argparse
from types import SimpleNamespace

import numpy as np
import torch
from step import Pictures, medians

from saeft_ray import sae
from saeft_ray.config.schema import METHODS
from saeft_ray.methods import EmbeddingPenalty, ParameterPenalty, Regularized
from saeft_ray.methods.captions import Captioned
from saeft_ray.model import encoder
from saeft_ray.model.two_towers import Towers
from saeft_ray.model.zero_shot import captions, zero_shot_head
from saeft_ray.model.zero_shot import head as head_of
from saeft_ray.settings import DictionarySettings, Model, Train
from saeft_ray.training.loop import Task, finetune
from saeft_ray.training.worker import Worker

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("arch", nargs="?", default="digit-clip")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--only", nargs="*", choices=METHODS.keys())
    options = parser.parse_args()
    small = options.arch == "digit-clip"
    batch = options.batch or (128 if small else 8)
    model = encoder.load(Model(arch=options.arch, pretrained="shipped" if small else "random"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prompts = ("a photo of a {}.", "a drawing of a {}.")
    head = zero_shot_head(model, NAMES, prompts)
    pictures = Pictures(batch, model.image_size)
    frozen = model.classifier(head).requires_grad_(False)
    with torch.no_grad():
        activations = frozen.embed(pictures.images(np.arange(batch)))[:, None].numpy()
    d = activations.shape[2]
    dictionary = sae.random(activations, DictionarySettings(width=4 * d, k=8 if small else 32), 0)
    train = Train(epochs=options.rounds + 2, batch_size=batch)
    epochs = {}
    for name, cls in METHODS.items():
        if not cls.trains or (options.only and name not in (*options.only, "ft")):
            continue
        lambdas = [field for field in cls.model_fields if field.startswith("lambda_")]
        method = cls(**dict.fromkeys(lambdas, 1.0)) if issubclass(cls, Regularized) else cls()
        constants = {}
        if isinstance(method, EmbeddingPenalty) and method.has_constants:
            contexts = head_of(model.clip, captions(model, NAMES, prompts).transpose(0, 1))
            f0 = torch.from_numpy(activations[:, 0])
            constants = method.prepare(
                SimpleNamespace(dictionary=dictionary, activations=lambda f0=f0: [f0], contexts=lambda w=contexts: w)
            )
        elif isinstance(method, ParameterPenalty):
            constants = {n: torch.ones_like(w) for n, w in frozen.encoder.named_parameters()}
        compared = activations if isinstance(method, EmbeddingPenalty) else frozen
        task = Task(pictures, 0, 1, train, method, 0, compared, dictionary, constants)
        start = model.classifier(head)
        whole = start
        if isinstance(method, Captioned):
            words = captions(model, NAMES, prompts)
            whole = Towers(start, model, words, words if method.teacher else words[:, :0], method.teacher)
        training = finetune(whole, task, Worker(device))
        training._monitors = lambda batch: {}  # type: ignore[method-assign]
        epochs[name] = iter(training)
    median = medians(epochs, options.rounds)
    print(f"{options.arch}, batch {batch}, {options.rounds} rounds, {torch.get_num_threads()} threads, {device.type}\n")
    print("| method | ms a step | ÷ plain |\n|---|---|---|")
    for name, value in sorted(median.items(), key=lambda item: item[1]):
        print(f"| {name} | {1e3 * value:.1f} | {value / median['ft']:.2f} |")


if __name__ == "__main__":
    main()
