"""Where a training runs, and how it is told to stop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from saeft_ray.settings import Compute


@dataclass(frozen=True)
class Worker:
    """Where and how a trial runs: its device, its rank among the workers, how they wrap the model (DDP, say), the mean
    of a tensor over them, whether this worker was told to go; the rest as in `Compute`. What a trial computes depends
    on none of it."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world_size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    mean: Callable[[Tensor], Tensor] = lambda tensor: tensor
    must_stop: Callable[[], bool] = lambda: False
    loaders: int = 0
    accumulate: int = 1
    checkpoint_activations: bool = False
    compile: bool = False

    @classmethod
    def of(cls, compute: Compute, **more: Any) -> Self:
        """The worker that a sweep file asks for: one worker, unless `more` fields say otherwise."""
        same = {name: getattr(compute, name) for name in ("loaders", "accumulate", "checkpoint_activations", "compile")}
        return cls(**{"device": torch.device("cuda" if compute.gpus else "cpu"), **same, **more})

    def any(self, *mine: bool) -> list[bool]:
        """Whether some worker says so, of each; all of them must ask, and get the same answers."""
        return [share > 0 for share in self.mean(torch.tensor(mine, device=self.device).float()).tolist()]
