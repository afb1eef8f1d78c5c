"""Per-example correctness of a classifier."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from saeft_ray.datasets import Split
from saeft_ray.draws import IntArray
from saeft_ray.errors import Diverged
from saeft_ray.model.encoder import Classifier
from saeft_ray.training.prefetch import ahead

BATCH = 512


def correct(model: Classifier, split: Split, device: torch.device, *, loaders: int = 0) -> NDArray[np.bool_]:
    """(N,) True where the prediction is the label."""
    right: NDArray[np.bool_] = predicted(model, split, device, loaders=loaders) == split.labels
    return right


@torch.inference_mode()
def predicted(
    model: Classifier,
    split: Split,
    device: torch.device,
    *,
    loaders: int = 0,
    embedded: list[NDArray[np.float32]] | None = None,
    logits: list[torch.Tensor] | None = None,
) -> IntArray:
    """(N,) the class of the largest logit among those that `split` holds, as `split` counts it. `loaders` processes
    render ahead; `embedded` receives the (B, d) embeddings of every batch, `logits` its (B, C) logits on the CPU.

    Raises Diverged for logits that are not finite: the largest of them would be the first class, whatever it is."""
    model.to(device).eval()
    groups = split.class_groups
    absent = None if groups is None else torch.from_numpy(groups < 0).to(device)
    batches = np.split(np.arange(len(split.labels)), range(BATCH, len(split.labels), BATCH))
    found, sound = [], []
    for images in ahead(split.images, batches, loaders, device):
        output = model(images.to(device, non_blocking=True))
        if embedded is not None:
            embedded.append(output.embeddings.cpu().numpy())
        if logits is not None:
            logits.append(output.logits.cpu())
        sound.append(output.logits.isfinite().all())
        held = output.logits if absent is None else output.logits.masked_fill(absent, -torch.inf)
        found.append(held.argmax(1))
    if sound and not torch.stack(sound).all():
        raise Diverged("the model's answers to images are not finite")
    best: IntArray = torch.cat(found).cpu().numpy()
    return best if groups is None else groups[best]


class Beside(NamedTuple):
    """Answers beside those of the frozen model, each a mean over images: KL(frozen ‖ tuned) in nats, the share on which
    the two answer alike, and the negative log-likelihood of the labels."""

    kl: float
    agreement: float
    nll: float


@torch.inference_mode()
def beside_frozen(logits: torch.Tensor, frozen: torch.Tensor, labels: IntArray) -> Beside:
    """How far answers moved from the frozen model's, and how sure they are of the truth. `logits` and `frozen` are
    (N, C), `labels` (N,)."""
    totals = torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(labels), BATCH):  # in double precision all at once could be gigabytes
        part = slice(start, start + BATCH)
        ours, theirs = (each[part].double().log_softmax(1) for each in (logits, frozen))
        kl = (theirs.exp() * (theirs - ours)).sum()
        same = (ours.argmax(1) == theirs.argmax(1)).sum()
        unlikely = -ours.gather(1, torch.from_numpy(labels[part])[:, None]).sum()
        totals += torch.stack([kl, same, unlikely])
    kl, same, unlikely = (totals / len(labels)).tolist()
    return Beside(max(0.0, kl), same, unlikely)
