"""An open_clip model as what the trials need: an image encoder with a head, words to tokens, and an identity.

Shapes: B batch, d embedding width, C classes. Images are uint8 (B, 3, H, W) everywhere outside this file; scaling to
the model's mean and standard deviation happens on the device, inside `Classifier`.
"""

import copy
import difflib
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from saeft_ray.errors import UserError
from saeft_ray.model.word_tokenizer import WordTokenizer
from saeft_ray.settings import Compute, Model
from saeft_ray.storage.location import Location
from saeft_ray.storage.retry import WAITS, Waits

SHIPPED = Path(__file__).parent / "shipped"
Precision = Literal["fp32", "bf16"]
T = TypeVar("T")
_NAMED = 5  # how many of many are named in one problem
WHOLE_BATCH = "this image tower normalises by batch statistics, so parts of a batch train otherwise than the whole"
HALF = (0.5, 0.5, 0.5)  # the weights in this package were trained on pixels scaled to [-1, 1]


class Output(NamedTuple):
    embeddings: Tensor  # (B, d), as the encoder gives them
    logits: Tensor  # (B, C)


class Classifier(nn.Module):
    """Image encoder and linear head on embeddings of length 1. With `precision` bf16 the encoder runs under autocast;
    its weights, its embeddings and the head stay in float32."""

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Linear,
        mean: Sequence[float],
        std: Sequence[float],
        precision: Precision = "fp32",
    ):
        super().__init__()
        self.precision: Precision = precision
        self.encoder = encoder
        self.head = head
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("scale", 1 / (torch.tensor(std).view(1, 3, 1, 1) * 255), persistent=False)

    def embed(self, images: Tensor) -> Tensor:
        """(B, d) embeddings of uint8 `images` (B, 3, H, W), not normalised."""
        pixels = (images.float() - self.mean) * self.scale
        with autocast(pixels.device, self.precision):
            out: Tensor = self.encoder(pixels)
        return out.float()

    def forward(self, images: Tensor) -> Output:
        embeddings = self.embed(images)
        return Output(embeddings, self.head(nn.functional.normalize(embeddings, dim=-1)))


class Extended(nn.Module):
    """A classifier with other weights that are trained with it. `classifier` is what is evaluated and kept."""

    classifier: Classifier

    def checkpoint_activations(self) -> None:
        """Does what the function of this name does, for the weights in addition to the classifier."""


class ClipModel(NamedTuple):
    """A loaded model; `clip` is open_clip's own module."""

    clip: Any
    tokenize: Callable[[Sequence[str]], Tensor]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def classifier(self, head: Tensor, precision: Precision = "fp32") -> Classifier:
        """A trainable copy of the image tower with `head` (C, d) as its linear layer and no bias to begin with."""
        linear = nn.Linear(head.shape[1], head.shape[0])
        with torch.no_grad():
            linear.weight.copy_(head)
            linear.bias.zero_()
        return Classifier(copy.deepcopy(self.clip.visual), linear, self.mean, self.std, precision).requires_grad_(True)


@lru_cache(maxsize=2)
def load(model: Model, endpoint: str | None = None, waits: Waits = WAITS) -> ClipModel:
    """The model that the sweep file names, on CPU in float32, in evaluation mode; kept for the next trial.

    Raises UserError if open_clip does not know the architecture or the weights do not fit it.
    """
    import open_clip

    _architecture(model)
    with _weights(model, endpoint, waits) as pretrained:
        torch.manual_seed(0)
        try:
            clip = open_clip.create_model(model.arch, pretrained=pretrained)
        except (RuntimeError, KeyError) as error:
            said = str(error).strip().splitlines()[0][:300]
            raise UserError(
                f"model.pretrained: {model.pretrained} cannot be loaded as {model.arch} ({said}); "
                "give weights of this architecture, or the architecture of these weights"
            ) from error
    if _convolutional(clip.visual):
        clip.visual.to(memory_format=torch.channels_last)
    size = clip.visual.image_size
    preprocess = clip.visual.preprocess_cfg
    clip.eval().requires_grad_(False)
    known = HALF if model.pretrained == "shipped" else None
    mean = model.mean or known or tuple(preprocess["mean"])
    std = model.std or known or tuple(preprocess["std"])
    return ClipModel(clip, tokenizer(model), size if isinstance(size, int) else size[0], mean, std)


def tokenizer(model: Model) -> Callable[[Sequence[str]], Tensor]:
    """What makes token ids (N, context length) of N texts for the model, without loading its weights."""
    import open_clip

    found: Callable[[Sequence[str]], Tensor] = _word_tokenizer(model) or open_clip.get_tokenizer(model.arch)
    return found


def identity(model: Model, endpoint: str | None = None, waits: Waits = WAITS) -> dict[str, str]:
    """Returns what determines the weights: architecture and the hash of the file (or an object's ETag).

    Raises UserError for an unknown architecture, or a file of weights that is not there.
    """
    _architecture(model)
    source = _source(model)
    pixels = {"mean": str(model.mean), "std": str(model.std)} if model.mean or model.std else {}
    if source is None:
        return {"arch": model.arch, "weights": model.pretrained, **pixels}
    file = Location(source, endpoint, waits)
    try:
        digest = file.info().tag.strip('"') or _sha256(file)
    except FileNotFoundError as error:
        raise UserError(
            f"model.pretrained: there is no file {source}; give a tag of open_clip, a file or a URL"
        ) from error
    return {"arch": model.arch, "weights": digest, **pixels}


def image_size(model: Model) -> int:
    """Pixels of the square input of the architecture, without loading weights."""
    size = _architecture(model)["vision_cfg"].get("image_size", 224)
    return int(size if isinstance(size, int) else size[0])


def width(model: Model) -> int:
    """d, the width of the image embedding, without loading weights."""
    return int(_architecture(model)["embed_dim"])


def blocks(model: Model) -> int | None:
    """Transformer blocks of the image tower; None for a ResNet, or a tower of another library, which has no such."""
    vision = _architecture(model)["vision_cfg"]
    layers = vision.get("layers", 12)
    return None if vision.get("timm_model_name") or not isinstance(layers, int) else layers


def depth(model: Classifier) -> int:
    """Blocks of a vision transformer."""
    tower: Any = model.encoder
    return len(tower.transformer.resblocks)


def with_tokens(model: Classifier, sites: Sequence[int], forward: Callable[[], T]) -> tuple[T, list[Tensor]]:
    """The result of `forward`, one forward pass of `model`, and the tokens (B, T, w) at `sites` of its transformer.

    Site 0 is the input of the first block, site i the output of block i.
    """
    blocks = cast(Any, model.encoder).transformer.resblocks if sites else ()
    found: dict[int, Tensor] = {}
    hooks = []
    for site in sites:

        def keep(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None, site: int = site) -> None:
            found[site] = inputs[0] if output is None else output

        block = blocks[max(site - 1, 0)]
        hooks.append(block.register_forward_hook(keep) if site else block.register_forward_pre_hook(keep))
    try:
        given = forward()
    finally:
        for hook in hooks:
            hook.remove()
    if not sites:
        return given, []
    batch_first = cast(Any, model.encoder).transformer.batch_first
    return given, [(found[i] if batch_first else found[i].transpose(0, 1)).float() for i in sites]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Matrix products and convolutions in bf16 within, if `precision` says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def checkpoint_activations(model: Classifier) -> None:
    """Makes blocks of the image tower compute anew in the backward pass what they gave. Raises UserError if it has no
    such blocks."""
    tower: Any = model.encoder
    if hasattr(tower, "set_grad_checkpointing"):
        tower.set_grad_checkpointing(True)
    if not any(getattr(module, "grad_checkpointing", False) for module in tower.modules()):
        raise UserError("compute.checkpoint_activations: this image tower cannot do that; leave it out")


def unfit(model: Model, compute: Compute) -> list[str]:
    """Says what `compute` asks for and the architecture cannot do, without loading weights; a tower of another
    library is only known when it is loaded."""
    if not isinstance(_architecture(model)["vision_cfg"].get("layers", 12), list):  # a list has a ResNet's stages
        return []
    found = []
    if compute.workers * compute.accumulate > 1:
        found.append(f"model.arch: {WHOLE_BATCH}; give compute.workers: 1 and compute.accumulate: 1")
    if compute.checkpoint_activations:
        found.append(f"compute.checkpoint_activations: {model.arch} has no blocks that can; leave it out")
    return found


def unreadable(model: Model, prompts: Sequence[str], class_names: Sequence[str]) -> list[str]:
    """Says which words of the templates and classes a model of few words does not know, without loading weights."""
    words = _word_tokenizer(model)
    if words is None:
        return []
    given = {"data.templates": [prompt.replace("{}", " ") for prompt in prompts], "data.classes": list(class_names)}
    found = []
    for place, texts in given.items():
        if unknown := list(dict.fromkeys(word for text in texts for word in words.unknown(text))):
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            found.append(
                f"{place}: {model.arch} has no word {', '.join(map(repr, unknown[:_NAMED]))}{more}; its words are in "
                f"{words.place}; give words that it has, or another model"
            )
    if found:
        return found
    try:
        words([prompt.replace("{}", name) for prompt in prompts for name in class_names])
    except UserError as error:  # too long
        return [f"data.templates: {error}"]
    return []


def _word_tokenizer(model: Model) -> WordTokenizer | None:
    """The tokenizer of a model in this package; None for others, which read any word."""
    words = SHIPPED / f"{model.arch}.words.txt"
    if not words.exists():
        return None
    return WordTokenizer.read(words, int(_architecture(model)["text_cfg"]["context_length"]))


def _convolutional(tower: nn.Module) -> bool:
    """Whether convolutions do more than cut the image into patches: channels-last, they are faster."""
    return sum(isinstance(module, nn.Conv2d) for module in tower.modules()) > 1


def _architecture(model: Model) -> dict[str, Any]:
    """open_clip's config of the architecture. Raises UserError for an unknown one."""
    import open_clip

    _register()
    config: dict[str, Any] | None = open_clip.get_model_config(model.arch)
    if config is None:
        close = difflib.get_close_matches(model.arch, open_clip.list_models(), n=3)
        raise UserError(
            f"model.arch: open_clip knows no {model.arch!r}"
            + (f"; did you mean {' or '.join(close)}?" if close else "; see open_clip.list_models()")
        )
    other = f"{model.arch}-quickgelu"
    tag = open_clip.get_pretrained_cfg(model.arch, model.pretrained)
    if tag.get("quick_gelu") and not config.get("quick_gelu") and open_clip.get_model_config(other):
        # open_clip only warns, and the model then sees with the wrong activation function.
        raise UserError(
            f"model.arch: the weights {model.pretrained} were trained as {other}, not {model.arch}; give that"
        )
    return config


@lru_cache(maxsize=1)
def _register() -> None:
    import open_clip

    open_clip.add_model_config(SHIPPED)


def _source(model: Model) -> str | None:
    """The file or URL that holds the weights; None for a tag of open_clip and for random weights."""
    import open_clip

    if model.pretrained == "shipped":
        return str(SHIPPED / f"{model.arch}.safetensors")
    if model.pretrained == "random" or model.pretrained in open_clip.list_pretrained_tags_by_model(model.arch):
        return None
    return model.pretrained


@contextmanager
def _weights(model: Model, endpoint: str | None, waits: Waits) -> Iterator[str | None]:
    """Gives what open_clip takes as `pretrained`: a tag, a local file, or None."""
    source = _source(model)
    if source is None:
        yield None if model.pretrained == "random" else model.pretrained
        return
    file = Location(source, endpoint, waits)
    if not file.exists():
        raise UserError(f"model.pretrained: there is no file {source}; give a tag of open_clip, a file or a URL")
    if file.local:
        yield file.url
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, file.name)
        file.fetch(local)
        yield str(local)


def _sha256(file: Location) -> str:
    digest = hashlib.sha256()
    for part in file.parts():
        digest.update(part)
    return digest.hexdigest()
