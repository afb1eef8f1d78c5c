"""Methods: the arms under comparison. One file is one family, found by being in this folder.

A method is a frozen pydantic model: its fields are its settings in the sweep file, its class variables say what it
needs, and a regularized method computes its penalty. Training loop, plan and parser know only this contract.

Shapes: B batch, d embedding width. Nothing here imports torch, so a plan needs none; penalties use tensor methods.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

from saeft_ray.space import Choices, Range

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.sae import Dictionary

DictionaryKind = Literal["trained", "random", "untrained", "permuted", "pca"]
"""Where atoms come from: the SAE of the frozen features, or one of its controls (`saeft_ray.sae.controls`)."""


class Method(BaseModel, ABC):
    """An arm under comparison; values it leaves open are searched."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    trains: ClassVar[bool] = True
    """Whether a trial of it updates weights, so that its seed matters."""

    @property
    def reads(self) -> DictionaryKind | None:
        """Which dictionary its penalty reads: its `dictionary`, whether the sweep file sets that or its type."""
        kind: DictionaryKind | None = getattr(self, "dictionary", None)
        return kind

    @property
    def base(self) -> str | None:
        """The method whose end point this one is derived from, with the same seed and no further training."""
        return None

    def open(self) -> dict[str, Range | Choices]:
        """The settings left open, by name."""
        return {name: value for name, value in self if isinstance(value, Range | Choices)}

    def at(self, values: Mapping[str, float]) -> Self:
        """This method with the open settings fixed to `values`."""
        return type(self).model_validate({**dict(self), **values})

    def problems(self) -> list[str]:
        """What makes these settings useless, in words."""
        return []


class Regularized(Method):
    """Fine-tuning with a penalty on the moving features."""

    @abstractmethod
    def penalty(self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None") -> "dict[str, Tensor]":
        """The weighted terms by name, each a scalar; their sum is added to the cross-entropy.

        `f` (B, d) are the moving, `f0` (B, d) the frozen image features of the same views, neither normalised.
        """


def unit(x: "Tensor") -> "Tensor":
    """Rows of `x` (B, d) at length 1."""
    length: Tensor = x.norm(dim=-1, keepdim=True)
    return x / length.clamp_min(1e-8)
