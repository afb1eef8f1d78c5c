"""Pre-trains the tiny CLIP that ships with the package, on the digits that nothing else uses.

    python -m saeft_ray.datasets.digit_world.pretrain [--steps 500] [--seed 0] --out PATH

InfoNCE alone learns colours and stays near chance on digits for many steps, so an auxiliary head, dropped
afterwards, names the caption's words from the image (as SuperClass does), and Muon trains the hidden matrices.
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from saeft_ray import draws
from saeft_ray.datasets.digit_world import DigitWorld, digits
from saeft_ray.datasets.digit_world.captions import CONTENT_WORDS, captions
from saeft_ray.datasets.digit_world.render import Draw, render
from saeft_ray.datasets.digit_world.splits import coverage
from saeft_ray.datasets.digit_world.styles import BROAD, RENDER_VERSION
from saeft_ray.model import word_tokenizer

MODELS = Path(__file__).resolve().parents[2] / "model" / "shipped"
CONFIG = MODELS / "digit-clip.json"
VIEWS = 10
BATCH = 128
WARM_UP = 40
MUON_RATE, ADAM_RATE, WEIGHT_DECAY = 0.02, 2e-3, 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description="Pre-train digit world's CLIP model.")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write; it must not exist")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists, and weights that results may rest on are not overwritten")
    model = pretrain(arguments.steps, arguments.seed, VIEWS)
    about = {"steps": arguments.steps, "seed": arguments.seed, "render_version": RENDER_VERSION}
    half = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(half, arguments.out, metadata={name: str(value) for name, value in about.items()})
    print(f"wrote {arguments.out}")
    model.load_state_dict(half)  # what is reported is what was saved
    for name, accuracy in zero_shot_accuracies(model).items():
        print(f"{name:10s}{100 * accuracy:6.1f} %")


def new_model() -> nn.Module:
    """An untrained model of `digit-clip.json`, which open_clip then knows by the name of the file."""
    open_clip.add_model_config(CONFIG)
    model: nn.Module = open_clip.CLIP(**_config())
    return model


def tokenizer() -> word_tokenizer.WordTokenizer:
    """The tokenizer of the shipped vocabulary."""
    return word_tokenizer.WordTokenizer.read(MODELS / "digit-clip.words.txt", _config()["text_cfg"]["context_length"])


def _config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads(CONFIG.read_text(encoding="utf-8"))
    return config


def pool(seed: int, views: int) -> tuple[torch.Tensor, list[str]]:
    """Every pre-training digit in `views` broad styles: pictures (views * 2000, 3, 28, 28) uint8, and captions."""
    rows = digits.rows("pretrain")
    labels = digits.mnist().labels[rows]
    pictures, texts = [], []
    for view in range(views):
        draw = Draw(seed, "pretrain", rows, np.full(len(rows), view, np.int64))
        drawn, shows = render(coverage("mnist", rows), labels, BROAD, draw)
        pictures.append(drawn)
        texts += captions(labels, shows, draw)
    return torch.cat(pictures), texts


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 pictures as the model reads them: mean and standard deviation 0.5."""
    return pictures.float() / 127.5 - 1


def pretrain(steps: int, seed: int, views: int) -> nn.Module:
    """Trains a new model; prints the loss every 50 steps."""
    torch.manual_seed(seed)
    model: Any = new_model().train()
    tokenize = tokenizer()
    namer = nn.Linear(model.visual.output_dim, len(tokenize.vocabulary))
    content = torch.tensor([float(word in CONTENT_WORDS) for word in tokenize.vocabulary])
    pictures, texts = pool(seed, views)
    tokens = tokenize(texts)
    optimizers = _optimizers(model, namer)
    for step, batch in enumerate(_batches(len(pictures), steps, seed)):
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * _schedule(step, steps)
        image = functional.normalize(model.encode_image(normalised(pictures[batch])), dim=-1)
        text = functional.normalize(model.encode_text(tokens[batch]), dim=-1)
        loss = _contrast(model.logit_scale.exp() * image @ text.T) + _naming(namer(10 * image), tokens[batch], content)
        for optimizer, _ in optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{steps}: loss {loss.item():.3f}", flush=True)
    trained: nn.Module = model.eval()
    return trained


def _contrast(logits: torch.Tensor) -> torch.Tensor:
    """InfoNCE of (B, B) logits, both ways."""
    target = torch.arange(len(logits))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def _naming(logits: torch.Tensor, tokens: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of (B, V) logits with the content words of captions (B, context), spread evenly over them."""
    named = torch.zeros_like(logits).scatter_(1, tokens, 1.0) * content
    target = named / named.sum(1, keepdim=True)
    return functional.cross_entropy(logits, target)


def _optimizers(model: nn.Module, namer: nn.Module) -> list[tuple[torch.optim.Optimizer, float]]:
    """Each optimizer with its peak learning rate."""
    hidden = {name for name, value in model.named_parameters() if value.ndim == 2 and "resblocks" in name}
    matrices = [value for name, value in model.named_parameters() if name in hidden]
    rest = [value for name, value in model.named_parameters() if name not in hidden] + list(namer.parameters())
    return [
        (torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="original"), MUON_RATE),
        (torch.optim.AdamW(rest, lr=ADAM_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98)), ADAM_RATE),
    ]


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 0; a share of the peak rate."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP))) / 2


def _batches(size: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """`steps` batches of indices (BATCH,), in a fresh order every epoch."""
    a_pass = size // BATCH
    for step in range(steps):
        epoch, place = divmod(step, a_pass)
        if place == 0:
            order = torch.from_numpy(draws.permutation(seed, "pretrain order", size, epoch))
        yield order[place * BATCH : (place + 1) * BATCH]


@torch.no_grad()
def zero_shot_accuracies(model: nn.Module) -> dict[str, float]:
    """Share of right answers of the prompt ensemble, by split."""
    clip: Any = model
    world, tokenize = DigitWorld(), tokenizer()
    prototypes = []
    for name in world.class_names():
        prompts = tokenize([template.format(name) for template in world.prompts()])
        mean = functional.normalize(clip.encode_text(prompts), dim=-1).mean(0)
        prototypes.append(functional.normalize(mean, dim=0))
    head = torch.stack(prototypes)
    accuracies = {}
    for split in ("selection", *world.test_sets()):
        data = world.split(split)
        pictures = data.images(np.arange(len(data.labels)))
        # The length of an embedding scales all classes alike.
        answers = (clip.encode_image(normalised(pictures)) @ head.T).argmax(1).numpy()
        accuracies[split] = float((answers == data.labels).mean())
    return accuracies


if __name__ == "__main__":
    main()
