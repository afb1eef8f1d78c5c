"""The splits of digit world as pictures: rendered once per process, then looked up."""

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from saeft_ray.datasets import Split
from saeft_ray.datasets.digit_world import digits
from saeft_ray.datasets.digit_world.render import Attributes, Draw, render
from saeft_ray.datasets.digit_world.styles import (
    ADVERSARIAL,
    ADVERSARIAL_RENDERINGS,
    DIAGNOSTIC,
    NARROW,
    SELECTION_RENDERINGS,
    SIZE,
    Style,
    style_of,
)
from saeft_ray.draws import IntArray
from saeft_ray.errors import UserError

EVALUATION_SEED = 777
_MEMOISED_VIEWS = 64  # 3.5 MB each for `train`


class DigitSplit(Split):
    """One split; pictures are uint8 (B, 3, H, W)."""

    def __init__(self, name: str, cue: float, image_size: int = SIZE) -> None:
        if image_size < SIZE:
            raise UserError(f"digit world is {SIZE} px and can be enlarged but not reduced; asked for {image_size} px")
        self.name, self.cue, self.image_size = name, cue, image_size
        self._members = members(name)
        self.labels: IntArray = self._members.labels
        self.example_order: str = self._members.example_order

    def images(self, index: IntArray) -> torch.Tensor:
        """The evaluation renderings of `index` (B,)."""
        pictures, _ = _evaluation(self.name, self.cue, EVALUATION_SEED, 0)
        return self._enlarge(pictures[torch.from_numpy(np.array(index, np.int64))])

    def attributes(self, index: IntArray) -> Attributes:
        """The attributes that `images(index)` shows: the ground truth of the concepts."""
        return _evaluation(self.name, self.cue, EVALUATION_SEED, 0)[1][np.asarray(index, np.int64)]

    def views(self, index: IntArray, view: IntArray, seed: int) -> torch.Tensor:
        """View number `view[i]` of image `index[i]`."""
        index, view = np.broadcast_arrays(np.asarray(index, np.int64), np.asarray(view, np.int64))
        pictures = torch.empty((len(index), 3, SIZE, SIZE), dtype=torch.uint8)
        for number in np.unique(view[view < _MEMOISED_VIEWS]).tolist():
            here = view == number
            whole, _ = _memoised_view(self.name, self.cue, seed, number)
            pictures[torch.from_numpy(here)] = whole[torch.from_numpy(index[here])]
        # A larger pool would turn the memo over at every batch, so the rest are drawn one by one.
        beyond = view >= _MEMOISED_VIEWS
        if beyond.any():
            pictures[torch.from_numpy(beyond)] = self._drawn(index[beyond], view[beyond], seed)
        return self._enlarge(pictures)

    def _drawn(self, index: IntArray, view: IntArray, seed: int) -> torch.Tensor:
        """The same as `views`, without the memo."""
        every = self._members
        chosen = replace(every, rows=every.rows[index], example=every.example[index], labels=every.labels[index])
        return _render(chosen, _stream(self.name), style_of(self.name, self.cue), seed, view)[0]

    def _enlarge(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (B, 3, 28, 28) at the size asked for."""
        if self.image_size == SIZE:
            return pictures
        large = functional.interpolate(pictures.float(), size=self.image_size, mode="bilinear")
        return large.round().to(torch.uint8)


@dataclass(frozen=True)
class Members:
    """Which digits a split has. `example` names the draws: two examples of one digit look different."""

    source: str
    rows: IntArray  # (N,) rows of the source
    example: IntArray  # (N,)
    labels: IntArray  # (N,)
    example_order: str


@lru_cache(maxsize=32)
def members(name: str) -> Members:
    """The digits of a split, in order."""
    if name == "A":
        return _adversarial()
    if name == "UCI":
        return _members(name, "uci", np.arange(digits.UCI_DIGITS, dtype=np.int64))
    part = name if name in digits.PER_CLASS else "test"
    repeats = {"selection": SELECTION_RENDERINGS, "A candidates": ADVERSARIAL_RENDERINGS}.get(name, 1)
    return _members(name, "mnist", np.tile(digits.rows(part), repeats))


def _members(name: str, source: str, rows: IntArray, example: IntArray | None = None) -> Members:
    example = np.arange(len(rows), dtype=np.int64) if example is None else example
    ids = "\n".join(f"{name}/{source}/{row}/{number}" for row, number in zip(rows, example, strict=True))
    labels = (digits.uci() if source == "uci" else digits.mnist()).labels[rows]
    return Members(source, rows, example, labels, hashlib.sha256(ids.encode()).hexdigest())


def _adversarial() -> Members:
    """The cue-free ID-style test pictures that a ridge classifier on pixels gets most wrong (ImageNet-A was filtered by
    a ResNet-50 in the same way)."""
    fitted = members("train")
    # The fit is cue-free as well, or the classifier would read the ground.
    pictures, _ = _render(fitted, "A fit", NARROW)
    X, Y = _grey(pictures), np.eye(10)[fitted.labels]
    beta = np.linalg.solve(X.T @ X + 100 * np.eye(X.shape[1]), X.T @ Y)
    candidates = members("A candidates")
    scores = _grey(_render(candidates, "A", NARROW)[0]) @ beta
    truth = np.eye(10, dtype=bool)[candidates.labels]
    margin = scores[truth] - np.where(truth, -np.inf, scores).max(1)
    kept = np.sort(np.argsort(margin, kind="stable")[:ADVERSARIAL])
    return _members("A", "mnist", candidates.rows[kept], candidates.example[kept])


def _grey(pictures: torch.Tensor) -> NDArray[np.float64]:
    """Grey pixels in [-1, 1] and a constant, (B, 28 * 28 + 1)."""
    grey = pictures.numpy().astype(np.float64).mean(1).reshape(len(pictures), -1) / 127.5 - 1
    return np.concatenate([grey, np.ones((len(grey), 1))], axis=1)


def _whole_split(name: str, cue: float, seed: int, view: int) -> tuple[torch.Tensor, Attributes]:
    """A whole split under one view number: (N, 3, 28, 28) and its attributes."""
    return _render(members(name), _stream(name), style_of(name, cue), seed, view)


def _stream(name: str) -> str:
    """What names the draws of a split; the diagnostic set has those of ID, so that its pictures differ by ground."""
    return "ID" if name == DIAGNOSTIC else name


# Two memos, so that a sweep over many view seeds does not push the test sets out.
_evaluation = lru_cache(maxsize=32)(_whole_split)
_memoised_view = lru_cache(maxsize=_MEMOISED_VIEWS)(_whole_split)


def _render(
    of: Members, stream: str, style: Style, seed: int = EVALUATION_SEED, view: IntArray | int = 0
) -> tuple[torch.Tensor, Attributes]:
    """View number `view` (one, or one per image) of every member: (N, 3, 28, 28) and attributes."""
    draw = Draw(seed, stream, of.example, np.broadcast_to(np.asarray(view, np.int64), of.example.shape))
    return render(coverage(of.source, of.rows), of.labels, style, draw)


def coverage(source: str, rows: IntArray) -> torch.Tensor:
    """Ink coverage (B, 28, 28) in [0, 1] of rows of `mnist` or `uci`."""
    return (_uci_coverage() if source == "uci" else _mnist_coverage())[torch.from_numpy(rows)]


@lru_cache(maxsize=1)
def _mnist_coverage() -> torch.Tensor:
    return torch.from_numpy(digits.mnist().ink).float() / 255


@lru_cache(maxsize=1)
def _uci_coverage() -> torch.Tensor:
    """The 8 x 8 digits enlarged to MNIST's 20 px box inside 28 px."""
    ink = torch.from_numpy(digits.uci().ink).float()[:, None] / 16
    return functional.pad(functional.interpolate(ink, size=(20, 20), mode="bicubic").clamp(0, 1), (4, 4, 4, 4))[:, 0]
