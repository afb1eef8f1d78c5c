"""The rows that dictionaries are made from, read where they lie: a memory map may be larger than the memory.

Shapes: N images, V views, d embedding width; B batch.
"""

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saeft_ray import draws
from saeft_ray.draws import IntArray
from saeft_ray.model.unit import unit
from saeft_ray.settings import DictionarySettings

HELD_OUT = 0.05  # share of images whose views measure the quality of an SAE and never train it
KEPT = 1 << 30  # bytes of rows that are simply copied into memory; on a GPU, half of what is free there
_PART = 1 << 18
_AHEAD = 2  # batches read while one is in use


class Rows:
    """All views of the images of (N, V, d) `activations` that train, in their order, as `settings` has them read.

    What it gives does not depend on whether the rows were copied or stay where they are.
    """

    def __init__(
        self, activations: NDArray[np.float32], settings: DictionarySettings, device: torch.device | None = None
    ):
        n = len(activations)
        self._views: int = activations.shape[1]
        self.d: int = activations.shape[2]
        self.device = device or torch.device("cpu")
        self._unit = settings.input == "unit"
        self._images = np.flatnonzero(~held_out(n))
        flat = activations.reshape(n * self._views, self.d)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it cannot be written: nobody does
            self._stored = torch.from_numpy(flat)
        self._kept: Tensor | None = None
        if 4 * len(self) * self.d <= _room(self.device):
            kept = torch.empty(len(self), self.d, device=self.device)
            for start, part in zip(range(0, len(self), _PART), self.parts(), strict=True):
                kept[start : start + len(part)] = part
            self._kept = kept

    def __len__(self) -> int:
        return len(self._images) * self._views

    def take(self, index: IntArray) -> Tensor:
        """(B, d) the rows at `index` (B,), on the device."""
        if self._kept is not None:
            return self._kept[torch.from_numpy(index).to(self.device)]
        return self._read(self._gathered(index))

    def each(self, indices: Iterable[IntArray]) -> Iterator[Tensor]:
        """`take` of each of `indices`; a thread reads ahead where rows are not in memory."""
        if self._kept is not None:
            yield from map(self.take, indices)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="rows") as reader:
            waiting: deque[Future[Tensor]] = deque()
            for index in indices:
                waiting.append(reader.submit(self._gathered, index))
                if len(waiting) > _AHEAD:
                    yield self._read(waiting.popleft().result())
            while waiting:
                yield self._read(waiting.popleft().result())

    def parts(self) -> Iterator[Tensor]:
        """All rows in order, a few hundred thousand at a time."""
        for start in range(0, len(self), _PART):
            yield self.take(np.arange(start, min(start + _PART, len(self))))

    def sample(self, most: int) -> Tensor:
        """At most so many rows, evenly spaced."""
        return self.take(np.arange(0, len(self), -(-len(self) // most)))

    def mean(self) -> Tensor:
        """(d,) the mean of all rows."""
        sums = [part.sum(0) for part in self.parts()]
        return (sums[0] if len(sums) == 1 else torch.stack(sums).double().sum(0).float()) / len(self)

    def _gathered(self, index: IntArray) -> Tensor:
        stored = self._images[index // self._views] * self._views + index % self._views
        rows = self._stored.index_select(0, torch.from_numpy(stored))
        return rows.pin_memory() if self.device.type == "cuda" else rows

    def _read(self, rows: Tensor) -> Tensor:
        rows = rows.to(self.device, non_blocking=True)
        return unit(rows) if self._unit else rows


def held_out(n: int) -> NDArray[np.bool_]:
    """(n,) True for the images that no SAE trains on; at least one."""
    chosen = draws.uniform(0, "sae held out", np.arange(n), slots=1)[:, 0] < HELD_OUT
    chosen[0] |= not chosen.any()
    return chosen


def _room(device: torch.device) -> int:
    if device.type != "cuda":
        return KEPT
    free: int = torch.cuda.mem_get_info(device)[0]
    return free // 2
