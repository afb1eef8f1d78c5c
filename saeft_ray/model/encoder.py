"""An open_clip model as what the trials need: an image encoder with a head, and words to tokens.

Shapes: B batch, d embedding width, C classes. Images are uint8 (B, 3, H, W) everywhere outside this file; scaling to
the model's mean and standard deviation happens on the device, inside `Classifier`.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from saeft_ray.errors import UserError
from saeft_ray.model import pretrained
from saeft_ray.model.pretrained import identity as identity
from saeft_ray.model.tensor_files import all_zero, not_finite, said
from saeft_ray.model.word_tokenizer import WordTokenizer
from saeft_ray.settings import Compute, Model, Preprocessing
from saeft_ray.storage.retry import WAITS, Waits

Precision = Literal["fp32", "bf16"]
T = TypeVar("T")
_NAMED = 5  # how many of many are named in one problem
WHOLE_BATCH = "this image tower normalises by batch statistics, so parts of a batch train otherwise than the whole"


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
    preprocessing: Preprocessing
    identity: dict[str, str]  # pretrained.identity of the weights in it

    def classifier(self, head: Tensor, precision: Precision = "fp32") -> Classifier:
        """A trainable copy of the image tower with `head` (C, d) as its linear layer and no bias to begin with."""
        linear = nn.Linear(head.shape[1], head.shape[0])
        with torch.no_grad():
            linear.weight.copy_(head)
            linear.bias.zero_()
        mean, std = self.preprocessing[:2]
        return Classifier(copy.deepcopy(self.clip.visual), linear, mean, std, precision).requires_grad_(True)


@lru_cache(maxsize=2)
def load(model: Model, endpoint: str | None = None, waits: Waits = WAITS) -> ClipModel:
    """The model that the sweep file names, on CPU in float32, in evaluation mode; kept for the next trial.

    Raises UserError if open_clip does not know the architecture, or the weights are not its own, not finite or zeros.
    """
    from open_clip.model import set_model_preprocess_cfg

    known, seen = identity(model, endpoint, waits), pretrained.preprocessing(model)
    with pretrained.opened(model, endpoint, waits) as file:
        clip = _with_weights(model, file)
    size = image_size(model)
    set_model_preprocess_cfg(clip, {**clip.visual.preprocess_cfg, **seen._asdict(), "size": (size, size)})
    if _convolutional(clip.visual):
        clip.visual.to(memory_format=torch.channels_last)
    clip.eval().requires_grad_(False)
    return ClipModel(clip, tokenizer(model), size, seen, known)


def tokenizer(model: Model) -> Callable[[Sequence[str]], Tensor]:
    """What makes token ids (N, context length) of N texts for the model, without loading its weights. Raises UserError
    if it cannot be had."""
    import open_clip

    try:
        found: Callable[[Sequence[str]], Tensor] = _word_tokenizer(model) or open_clip.get_tokenizer(model.arch)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"model.arch: the tokenizer of {model.arch} cannot be had ({said(error)})") from error
    return found


def _with_weights(model: Model, file: Path | None) -> Any:
    """open_clip's module with the weights in the local `file`, or its initial ones. Raises UserError if it is not all
    of them, or they are not finite."""
    from open_clip.factory import load_checkpoint

    clip = pretrained.bare(model)
    if file is not None:
        pretrained.refuse_misfit(clip, model, file)
    try:
        if file is not None:
            load_checkpoint(clip, str(file))
    except Exception as error:  # what gets here is a file whose tensors have the right names and shapes
        raise UserError(f"model.pretrained: {file} cannot be loaded as {model.arch} ({said(error)})") from error
    if bad := not_finite(clip.state_dict()):
        raise UserError(f"model.pretrained: {file}: {bad} holds values that are not finite; give sound weights")
    if file is not None and (empty := all_zero(dict(clip.named_parameters()))):
        raise UserError(f"model.pretrained: {file}: {empty} holds nothing but zeros; give weights that were trained")
    pretrained.resize(clip, model)
    return clip


def image_size(model: Model) -> int:
    """Pixels of the square input, without loading weights. Raises UserError for an architecture whose is no square."""
    size = model.image_size or pretrained.architecture(model)["vision_cfg"].get("image_size", 224)
    sides = {size} if isinstance(size, int) else {*size} if isinstance(size, list | tuple) else set()
    if len(sides) != 1 or not isinstance(size if isinstance(size, int) else size[0], int):
        raise UserError(
            f"model.arch: {model.arch} reads pictures of {size} pixels, and not of one square size; give another"
        )
    return int(sides.pop())


def width(model: Model) -> int:
    """d, the width of the image embedding, without loading weights."""
    return int(pretrained.architecture(model)["embed_dim"])


def bytes_of(model: Model) -> int:
    """Bytes of the weights of the image tower in float32, without loading them."""
    with torch.device("meta"):
        return sum(4 * parameter.numel() for parameter in pretrained.bare(model, "meta").visual.parameters())


def blocks(model: Model) -> int | None:
    """Transformer blocks of the image tower; None for a ResNet, or a tower of another library, which has no such."""
    vision = pretrained.architecture(model)["vision_cfg"]
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
    if not isinstance(
        pretrained.architecture(model)["vision_cfg"].get("layers", 12), list
    ):  # a list has a ResNet's stages
        return []
    found = []
    if compute.workers * compute.accumulate > 1:
        found.append(f"model.arch: {WHOLE_BATCH}; give compute.workers: 1 and compute.accumulate: 1")
    if compute.checkpoint_activations:
        found.append(f"compute.checkpoint_activations: {model.arch} has no blocks that can; leave it out")
    return found


_RENAME = " (for data of type folder, `classes: {folder: word}` says what a folder is read as)"


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
                f"{place}: {model.arch} has no word {', '.join(map(repr, unknown[:_NAMED]))}{more}; {words.shown()}; "
                f"give words that it has{_RENAME if place == 'data.classes' else ''}, or another model"
            )
    if found:
        return found
    try:
        words([prompt.replace("{}", name) for prompt in prompts for name in class_names])
    except UserError as error:  # too long
        return [f"data.templates: {error}"]
    return []


def indistinct(model: Model, prompts: Sequence[str], class_names: Sequence[str]) -> list[str]:
    """Says which classes have the same tokens in every template although their words differ, and which have none,
    without loading weights. Nothing is said if the tokenizer cannot be had."""
    try:
        tokens = tokenizer(model)
    except UserError:
        return []  # loading the model says it
    names = list(dict.fromkeys(class_names))
    *alone, nothing = tokens([*names, ""]).tolist()
    silent = [name for name, row in zip(names, alone, strict=True) if row == nothing]
    found = [f"data.classes: {name!r} has no word for {model.arch}; give it one" for name in silent]
    groups = [named] if (named := [name for name in names if name not in silent]) else []
    for prompt in prompts:  # most are told apart by the first
        groups = [same for group in groups for same in _same(group, tokens([prompt.replace("{}", n) for n in group]))]
    for group in groups if prompts else ():
        more = f" and {len(group) - _NAMED} more" if len(group) > _NAMED else ""
        shown = ", ".join(map(repr, group[:_NAMED])) + more
        found.append(f"data.classes: {shown} are the same tokens for {model.arch}; give each class words of its own")
    return found


def _same(names: Sequence[str], tokens: Tensor) -> list[list[str]]:
    """Those of `names` whose rows of `tokens` are equal, in groups of two or more."""
    by_row: dict[tuple[int, ...], list[str]] = {}
    for name, row in zip(names, tokens.tolist(), strict=True):
        by_row.setdefault(tuple(row), []).append(name)
    return [group for group in by_row.values() if len(group) > 1]


def _word_tokenizer(model: Model) -> WordTokenizer | None:
    """The tokenizer of a model in this package; None for others, which read any word."""
    words = pretrained.SHIPPED / f"{model.arch}.words.txt"
    if not words.exists():
        return None
    return WordTokenizer.read(words, int(pretrained.architecture(model)["text_cfg"]["context_length"]))


def _convolutional(tower: nn.Module) -> bool:
    """Whether convolutions do more than cut the image into patches: channels-last, they are faster."""
    return sum(isinstance(module, nn.Conv2d) for module in tower.modules()) > 1
