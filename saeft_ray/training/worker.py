"""Where a training runs, and how it learns that it must stop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from saeft_ray.errors import Stopped
from saeft_ray.settings import Compute


@dataclass(frozen=True)
class Worker:
    """Where and how a trial runs: its device, its rank among the workers, how they wrap the model (with DDP, say), the
    mean of a tensor over them, whether this worker must stop to continue later, and why the trial must end for good (""
    while nobody wants that; rank 0 alone need ask); the rest as in `Compute`. None of it changes what a trial computes.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world_size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    mean: Callable[[Tensor], Tensor] = lambda tensor: tensor
    must_stop: Callable[[], bool] = lambda: False
    stopped: Callable[[], str] = lambda: ""
    loaders: int = 0
    accumulate: int = 1
    checkpoint_activations: bool = False
    compile: bool = False

    @classmethod
    def of(cls, compute: Compute, **more: Any) -> Self:
        """The worker that a sweep file asks for: the only one, unless `more` fields say otherwise."""
        same = {name: getattr(compute, name) for name in ("loaders", "accumulate", "checkpoint_activations", "compile")}
        return cls(**{"device": torch.device("cuda" if compute.gpus else "cpu"), **same, **more})

    def any(self, *mine: bool) -> list[bool]:
        """For each of `mine`, whether it is true on some worker. All workers must ask; all get the same answers."""
        return [share > 0 for share in self.mean(torch.tensor(mine, device=self.device).float()).tolist()]

    def heed(self, *mine: bool) -> list[bool]:
        """Whether some worker must leave, then the same of each of `mine` as in `any`. Raises Stopped if the trial
        must end for good. All workers must ask."""
        why = self.stopped()
        over, *others = self.any(bool(why), self.must_stop(), *mine)
        if over:
            raise Stopped(why)
        return others
