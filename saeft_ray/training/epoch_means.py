"""Sums over the steps of an epoch so far, on every worker; a checkpoint within an epoch holds them."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from saeft_ray.training.worker import Worker


class EpochMeans:
    """Sums over the steps of one epoch so far: seconds, and on the device loss terms and clipped steps."""

    def __init__(self, worker: "Worker", steps: int = 0, saved: Mapping[str, Tensor] = MappingProxyType({})) -> None:
        """Starts after `steps` steps of an epoch; `saved` holds what `tensors` gave then."""
        self._worker, self.steps = worker, steps
        self._terms = {name[4:]: self._own(each) for name, each in saved.items() if name.startswith("sum.")}
        self._clipped = self._own(saved["clipped"]) if steps else torch.zeros((), device=worker.device)
        self.seconds = float(self._own(saved["seconds"])) if steps else 0.0

    def add(self, terms: dict[str, Tensor], clipped: Tensor) -> None:
        self.steps += 1
        self._clipped += clipped
        for name, value in terms.items():
            value = value.detach()
            self._terms[name] = self._terms[name] + value if name in self._terms else value

    def means(self) -> dict[str, float]:
        """Means over steps and workers: every worker gets the same, so all of them diverge together or none does."""
        values = self._worker.mean(torch.stack(list(self._terms.values()))) / self.steps
        return dict(zip(self._terms, values.tolist(), strict=True))

    def clipped(self) -> float:
        """The share of steps whose gradient was clipped."""
        return float(self._clipped) / self.steps

    def not_finite(self) -> list[str]:
        """The terms whose mean is not finite."""
        return [name for name, value in self.means().items() if not math.isfinite(value)]

    def tensors(self) -> dict[str, Tensor]:
        """Returns what a checkpoint needs: each sum as (workers,). Empty between two epochs."""
        if not self.steps:
            return {}
        sums = {f"sum.{name}": value for name, value in self._terms.items()}
        sums |= {"clipped": self._clipped, "seconds": torch.tensor(self.seconds)}
        return {name: self._all(value) for name, value in sums.items()}

    def _all(self, mine: Tensor) -> Tensor:
        """(workers,), everyone's own. A mean in double precision of numbers that are single: no digit is lost."""
        each = torch.zeros(self._worker.world_size, dtype=torch.float64, device=self._worker.device)
        each[self._worker.rank] = mine
        return (self._worker.mean(each) * self._worker.world_size).to(mine.dtype)

    def _own(self, each: Tensor) -> Tensor:
        """This worker's of (workers,); of other workers than these, their mean."""
        same = len(each) == self._worker.world_size
        return (each[self._worker.rank] if same else each.mean()).to(self._worker.device)
