"""Methods: the arms under comparison. One file is one family, found by being in this folder.

A method is a frozen pydantic model: its fields are its settings in the sweep file, its class variables say what it
needs, and a regularized method computes its penalty: on features, on blocks or on weights. Training loop, plan and
parser know only this contract.

Shapes: B batch, d embedding width. Nothing here imports torch, so a plan needs none; penalties use tensor methods.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict

from saeft_ray.settings import Choices, Range, highest

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.datasets import Split
    from saeft_ray.methods.facts import Facts
    from saeft_ray.model.encoder import Classifier
    from saeft_ray.sae import Dictionary

DictionaryKind = Literal["trained", "random", "untrained", "permuted", "pca"]
"""Where atoms come from: the SAE of the frozen features, or one of its controls (`saeft_ray.sae.controls`)."""


Constants = Mapping[str, "Tensor"]
NOTHING: Constants = {}


class Frozen(Protocol):
    """The frozen side of a sweep, as a method may read it once, before any training. P templates."""

    @property
    def seed(self) -> int:
        """What names its draws: the sweep's, not a trial's."""

    @property
    def dictionary(self) -> "Dictionary | None":
        """The one that the method reads."""

    def activations(self) -> "Iterable[Tensor]":
        """All stored activations in parts (n, d), so that no device must hold them at once."""

    def model(self) -> "Classifier":
        """The frozen encoder with the zero-shot head."""

    def images(self) -> "Split":
        """The training images."""

    def contexts(self) -> "Tensor":
        """(P, d) weights that tell templates apart as the zero-shot head tells classes: one row a template."""


class Method(BaseModel, ABC):
    """An arm under comparison; values it leaves open are searched."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    trains: ClassVar[bool] = True
    """Whether a trial of it runs the training loop, so that its seed matters."""

    batch_mean: ClassVar[bool] = True
    """Whether its loss of a batch is the mean of its rows' losses, so that workers may share the batch."""

    @property
    def dictionary_kind(self) -> DictionaryKind | None:
        """Which dictionary its penalty reads: its `dictionary`, whether the sweep file sets that or its type."""
        kind: DictionaryKind | None = getattr(self, "dictionary", None)
        return kind

    @property
    def needs_all_embeddings(self) -> bool:
        """Whether it reads all stored activations before training."""
        return False

    @property
    def base(self) -> str | None:
        """The method whose end point this one is derived from, with the same seed and no further training."""
        return None

    def open_values(self) -> dict[str, Range | Choices]:
        """The settings left open, by name."""
        return {name: value for name, value in self if isinstance(value, Range | Choices)}

    def with_values(self, values: Mapping[str, float]) -> Self:
        """This method with the open settings fixed to `values`."""
        return type(self).model_validate({**dict(self), **values})

    def problems(self) -> list[str]:
        """What makes these settings useless, in words."""
        return []

    def unmet_requirements(self, facts: "Facts") -> list[str]:
        """What this method needs and the sweep's model and data do not have, in words."""
        return []


class Regularized(Method):
    """Fine-tuning with a penalty: its terms are added to the cross-entropy. What it compares makes its kind, below.

    Every weight of a term is a setting that begins with `lambda_`. What else it needs (a basis, a mean, the Fisher
    information) `prepare` computes once for all trials of a sweep, whatever their lambdas; it arrives in `penalty` as
    `constants`, by name.
    """

    zero_at_start: ClassVar[bool] = True
    """Whether the penalty is 0 where the model has not moved."""

    @property
    def has_constants(self) -> bool:
        """Whether it has constants."""
        return False

    def prepare(self, frozen: Frozen) -> "dict[str, Tensor]":
        """The constants. They must not depend on any lambda."""
        return {}

    def problems(self) -> list[str]:
        lambdas = {name: value for name, value in self if name.startswith("lambda_")}
        if max(map(highest, lambdas.values())) > 0:
            return []
        named = " and ".join(", ".join(lambdas).rsplit(", ", 1))
        are, give = ("is", "give a positive value") if len(lambdas) == 1 else ("are all", "make one positive")
        return [f"{named} {are} 0, so the penalty can never act; {give}, or use ft"]

    @property
    def weights(self) -> dict[str, float]:
        """The lambdas of a closed configuration, without their prefix."""
        return {name.removeprefix("lambda_"): value for name, value in self if name.startswith("lambda_")}


class EmbeddingPenalty(Regularized):
    """Compares image features. Those of the frozen model are stored, so a step costs what a plain step costs."""

    @abstractmethod
    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: "Constants" = NOTHING
    ) -> "dict[str, Tensor]":
        """The weighted terms by name, each a scalar; their sum is added to the cross-entropy.

        `f` (B, d) are the moving, `f0` (B, d) the frozen image features of the same views, neither normalised.
        """


class LayerPenalty(Regularized):
    """Compares what blocks of the vision transformer give: one moving and one frozen forward a step."""

    @abstractmethod
    def sites(self, blocks: int) -> list[int]:
        """Which outputs are read of an encoder of so many blocks: 0 is what enters block 1, i what block i gives."""

    @abstractmethod
    def penalty(self, h: "Sequence[Tensor]", h0: "Sequence[Tensor]") -> "dict[str, Tensor]":
        """The weighted terms by name; `h`, `h0` hold (B, T, w) moving and frozen tokens, one a site."""

    def unmet_requirements(self, facts: "Facts") -> list[str]:
        if facts.blocks is None:
            arch = facts.model["arch"]
            return [f"the image encoder of {arch} has no transformer blocks to compare; give a ViT, or leave it out"]
        return []


class ParameterPenalty(Regularized):
    """Compares the image encoder's weights with those it started from; the head, which starts anew, is free."""

    @abstractmethod
    def penalty(
        self, w: "Mapping[str, Tensor]", w0: "Mapping[str, Tensor]", constants: "Constants" = NOTHING
    ) -> "dict[str, Tensor]":
        """The weighted terms by name; `w`, `w0` are the moving and the frozen weights of the encoder, by name."""
