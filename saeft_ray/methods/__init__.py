"""Methods: the arms under comparison. One file is one family, found by being in this folder.

A method is a frozen pydantic model: its fields are its settings in the sweep file, its class variables say what it
needs, and a regularized method computes its penalty: on embeddings, on blocks or on weights. Training loop, plan and
parser know only this contract.

Shapes: B batch, d embedding width. Nothing here imports torch, so a plan needs none; penalties use tensor methods.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, Self

from pydantic import BaseModel, ConfigDict

from saeft_ray.draws import IntArray
from saeft_ray.settings import Choices, DictionarySettings, Range, highest

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.datasets import Split
    from saeft_ray.methods.facts import Facts
    from saeft_ray.model.encoder import Classifier, ClipModel, Extended
    from saeft_ray.sae import Dictionary

DictionaryKind = Literal["trained", "random", "untrained", "permuted", "pca"]
"""Where atoms come from: the SAE of the frozen embeddings, or one of its controls (`saeft_ray.sae.controls`)."""


Constants = Mapping[str, "Tensor"]
NOTHING: Constants = {}


class Frozen(Protocol):
    """The frozen side of a sweep, as a method may read it once, before any training. P templates."""

    @property
    def seed(self) -> int:
        """The seed that names its draws: the sweep's, not a trial's."""

    @property
    def dictionary(self) -> "Dictionary | None":
        """The dictionary that the method reads."""

    def activations(self) -> "Iterable[Tensor]":
        """All stored activations in parts (n, d), so that no device must hold them at once."""

    def labels(self) -> "Tensor":
        """The class of each row of `activations`, in their order."""

    def model(self) -> "Classifier":
        """The frozen encoder with the zero-shot head."""

    def images(self) -> "Split":
        """The training images."""

    def contexts(self) -> "Tensor":
        """(P, d) weights that separate templates as the zero-shot head separates classes: one row per template."""


class Context(Protocol):
    """The parts of a sweep that a method may use when its trial begins."""

    @property
    def label_smoothing(self) -> float:
        """The label smoothing of the cross-entropy."""

    def embeddings(self) -> "Iterable[tuple[Tensor, Tensor]]":
        """All stored embeddings (n, d) with their labels (n,), in parts, on the trial's device. Only for a method with
        `needs_all_embeddings`."""

    def clip(self) -> "ClipModel":
        """The frozen model with both towers."""

    def class_names(self) -> Sequence[str]:
        """One name per class, in label order."""

    def prompts(self) -> Sequence[str]:
        """Templates of captions; "{}" is replaced by the class name."""


class TrainingBatch(NamedTuple):
    """One batch, or this worker's part of it, after its forward pass."""

    output: Any  # of the trained module: model.encoder.Output, or what a wrapped model gives
    images: "Tensor"  # uint8 (B, 3, H, W)
    labels: "Tensor"  # (B,)
    inputs: "tuple[Tensor, ...]"  # what the trained module got in addition to the images
    trained: Any  # the module that is trained: `model`, or what `wrap` made of it
    model: "Classifier"
    frozen: "Classifier | None"  # where the method compares
    f0: "Tensor | None"  # (B, d) frozen embeddings of the same views, where it compares embeddings
    h: "Sequence[Tensor]"  # (B, T, w) moving tokens, one per site
    h0: "Sequence[Tensor]"  # the frozen ones, where it compares layers
    dictionary: "Dictionary | None"
    constants: Constants
    label_smoothing: float
    epoch: int  # this one, from 1
    epochs: int


class Method(BaseModel, ABC):
    """A method under comparison: a frozen pydantic model. Its fields are its settings, values left open are searched.

    A subclass with `type: Literal["name"] = "name"` can be named in a sweep file. Class variables and properties say
    what the method is and needs; the hooks, in the order in which a trial calls them, say what it does. Each hook has
    a default, which is that of plain fine-tuning:

    >>> from typing import Literal
    >>> class HalfSmoothed(Method):
    ...     type: Literal["half_smoothed"] = "half_smoothed"
    ...     def losses(self, batch):
    ...         return super().losses(batch._replace(label_smoothing=batch.label_smoothing / 2))
    >>> HalfSmoothed().trains, HalfSmoothed().dictionary_kind, HalfSmoothed().open_values()
    (True, None, {})
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    family: ClassVar[str] = "fine-tuning"
    """Which kind of method it is, for the report: `frozen` is the model as it came, `interpolation` lies between the
    frozen model and another method's weights at its setting `alpha` (0 to 1); other words are only shown."""

    about: ClassVar[str] = ""
    """What the method does, in one sentence for the reader of a report."""

    trains: ClassVar[bool] = True
    """Whether a trial of it runs the training loop, so that its seed matters."""

    trains_text: ClassVar[bool] = False
    """Whether it trains the text tower too."""

    batch_mean: ClassVar[bool] = True
    """Whether its loss of a batch is the mean of its rows' losses, so that workers may share the batch."""

    compares: ClassVar[Literal["nothing", "embeddings", "layers", "weights"]] = "nothing"
    """The quantity that steps compare with the frozen model's. Embeddings are stored; layers take a forward pass."""

    control_of: ClassVar[str | None] = None
    """The `type` whose penalty this one has too, with another dictionary; None if its penalty is its own."""

    @property
    def dictionary_kind(self) -> DictionaryKind | None:
        """Which dictionary its penalty reads: its `dictionary`, whether the sweep file sets that or its type."""
        kind: DictionaryKind | None = getattr(self, "dictionary", None)
        return kind

    @property
    def needs_all_embeddings(self) -> bool:
        """Whether it reads all stored embeddings before training."""
        return False

    @property
    def has_constants(self) -> bool:
        """Whether `prepare` computes anything."""
        return False

    @property
    def base(self) -> str | None:
        """The label of the method whose final weights this one is derived from, with the same seed and no further
        training."""
        return None

    def open_values(self) -> dict[str, Range | Choices]:
        """The settings left open, by name."""
        return {name: value for name, value in self if isinstance(value, Range | Choices)}

    def with_values(self, values: Mapping[str, float]) -> Self:
        """This method with the open settings fixed to `values`. Raises pydantic's ValidationError for a bad value."""
        return type(self).model_validate({**dict(self), **values})

    def determining_settings(self) -> dict[str, Any]:
        """Everything that determines its training, in one form: two methods that have the same are one arm twice.

        Weights of terms that are always 0 are left out, and so is what is at its default.
        """
        given = self.model_dump(mode="json", exclude_defaults=True)
        idle = {name for name, value in self if name.startswith("lambda_") and not highest(value)}
        return {"type": getattr(self, "type", ""), **{k: v for k, v in given.items() if k not in idle}}

    def problems(self) -> list[str]:
        """Reasons why these settings are useless, in words."""
        return []

    def dictionary_problems(self, dictionary: DictionarySettings) -> dict[str, str]:
        """Contradictions to the sweep's `dictionary`, in words, by the name of the setting."""
        return {}

    def unmet_requirements(self, facts: "Facts") -> list[str]:
        """Needs of this method that the sweep's model and data do not meet, in words."""
        return []

    def prepare(self, frozen: Frozen) -> "dict[str, Tensor]":
        """The constants, by name: what all trials of a sweep share. They must not depend on any lambda."""
        return {}

    def start(self, context: Context, model: "Classifier") -> None:
        """Changes `model`, the frozen encoder with the zero-shot head, before training; or instead of training."""

    def wrap(self, context: Context, model: "Classifier") -> "Classifier | Extended":
        """The module that is trained: `model`, or one that holds it and other weights."""
        return model

    def sites(self, blocks: int) -> list[int]:
        """Which outputs are read of an encoder of so many blocks: 0 is what enters block 1, i what block i gives."""
        return []

    def inputs(self, trained: Any, labels: "Tensor", sample: IntArray, seed: int, epoch: int) -> "tuple[Tensor, ...]":
        """The trained module's inputs besides the images of `sample` (B,) with `labels` (B,): draws are named by the
        trial's `seed` and the `epoch`, from 0."""
        return ()

    def losses(self, batch: TrainingBatch) -> "dict[str, Tensor]":
        """The summands of the loss by name, each a scalar: cross-entropy and the method's `terms`."""
        from torch.nn.functional import cross_entropy

        found = cross_entropy(batch.output.logits, batch.labels, label_smoothing=batch.label_smoothing)
        return {"cross_entropy": found, **self.terms(batch)}

    def terms(self, batch: TrainingBatch) -> "dict[str, Tensor]":
        """The weighted terms that are added to the cross-entropy, by name, each a scalar."""
        return {}

    def after_step(self, trained: Any, step: int, total: int) -> None:
        """Called after optimizer step number `step`, from 0, of `total`."""

    def after_epoch(self, trained: Any) -> None:
        """Called after the last step of every epoch."""

    def finish(self, tuned: "Classifier", frozen: "Callable[[], Classifier]") -> "Classifier":
        """The classifier that is evaluated, made of the trained one and, where `frozen` is called, the frozen one."""
        return tuned


class Regularized(Method):
    """Fine-tuning with a penalty: its terms are added to the cross-entropy. What it compares makes its kind, below.

    Every weight of a term is a setting that begins with `lambda_`. What else it needs (a basis, a mean, the Fisher
    information) `prepare` computes once for all trials of a sweep, whatever their lambdas; it arrives in `penalty` as
    `constants`, by name. Where `has_constants`, tensors come and go by name:

    >>> from typing import Literal
    >>> from saeft_ray.settings import Tunable
    >>> class Centred(EmbeddingPenalty):
    ...     type: Literal["centred"] = "centred"
    ...     lambda_centre: Tunable
    ...     has_constants: ClassVar[bool] = True
    ...     needs_all_embeddings: ClassVar[bool] = True
    ...     def prepare(self, frozen):
    ...         parts = list(frozen.activations())
    ...         return {"mean": sum(part.sum(0) for part in parts) / sum(map(len, parts))}
    ...     def penalty(self, f, f0, dictionary, constants=NOTHING):
    ...         return {"centre": self.weights["centre"] * (f.mean(0) - constants["mean"].to(f)).square().mean()}
    >>> Centred(lambda_centre=2.0).weights
    {'centre': 2.0}
    >>> Centred(lambda_centre=0.0).problems()
    ['lambda_centre is 0, so the penalty can never act; give a positive value, or use ft']
    """

    family: ClassVar[str] = "penalty"
    zero_at_start: ClassVar[bool] = True
    """Whether the penalty is 0 where the model has not moved."""

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
    """Compares image embeddings. Those of the frozen model are stored, so a step takes as long as a plain one.

    >>> import torch
    >>> from typing import Literal
    >>> from saeft_ray.settings import Tunable
    >>> class Square(EmbeddingPenalty):
    ...     type: Literal["square"] = "square"
    ...     lambda_square: Tunable
    ...     def penalty(self, f, f0, dictionary, constants=NOTHING):
    ...         return {"square": self.weights["square"] * (f - f0).square().mean()}
    >>> Square(lambda_square=3.0).penalty(torch.ones(4, 2), torch.zeros(4, 2), None)
    {'square': tensor(3.)}
    """

    compares: ClassVar[Literal["nothing", "embeddings", "layers", "weights"]] = "embeddings"

    @abstractmethod
    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: "Constants" = NOTHING
    ) -> "dict[str, Tensor]":
        """The weighted terms by name, each a scalar; their sum is added to the cross-entropy.

        Arguments:
            f: (B, d) moving embeddings, not normalised.
            f0: (B, d) frozen embeddings of the same views, not normalised; no gradient flows into them.
            dictionary: of kind `dictionary_kind`, on the same device; None where that is None.
            constants: what `prepare` gave.
        """

    def terms(self, batch: TrainingBatch) -> "dict[str, Tensor]":
        assert batch.f0 is not None
        return self.penalty(batch.output.embeddings, batch.f0, batch.dictionary, batch.constants)


class LayerPenalty(Regularized):
    """Compares what blocks of the vision transformer give: one moving and one frozen forward per step.

    >>> import torch
    >>> from typing import Literal
    >>> from saeft_ray.settings import Tunable
    >>> class LastBlock(LayerPenalty):
    ...     type: Literal["last_block"] = "last_block"
    ...     lambda_last: Tunable
    ...     def sites(self, blocks):
    ...         return [blocks]
    ...     def penalty(self, h, h0):
    ...         return {"last": self.weights["last"] * (h[0] - h0[0]).square().mean()}
    >>> LastBlock(lambda_last=2.0).penalty([torch.ones(4, 5, 3)], [torch.zeros(4, 5, 3)])
    {'last': tensor(2.)}
    """

    compares: ClassVar[Literal["nothing", "embeddings", "layers", "weights"]] = "layers"

    @abstractmethod
    def sites(self, blocks: int) -> list[int]:
        """Which outputs are read of an encoder of so many blocks: 0 is what enters block 1, i what block i gives."""

    @abstractmethod
    def penalty(self, h: "Sequence[Tensor]", h0: "Sequence[Tensor]") -> "dict[str, Tensor]":
        """The weighted terms by name; `h`, `h0` hold (B, T, w) moving and frozen tokens, one per site."""

    def terms(self, batch: TrainingBatch) -> "dict[str, Tensor]":
        return self.penalty(batch.h, batch.h0)

    def unmet_requirements(self, facts: "Facts") -> list[str]:
        if facts.blocks is None:
            arch = facts.model["arch"]
            return [f"the image encoder of {arch} has no transformer blocks to compare; give a ViT, or leave it out"]
        return []


class ParameterPenalty(Regularized):
    """Compares the image encoder's weights with those it started from; the head, which starts anew, is free.

    >>> import torch
    >>> from typing import Literal
    >>> from saeft_ray.settings import Tunable
    >>> class MaxMove(ParameterPenalty):
    ...     type: Literal["max_move"] = "max_move"
    ...     lambda_max: Tunable
    ...     def penalty(self, w, w0, constants=NOTHING):
    ...         return {"max": self.weights["max"] * max((w[name] - w0[name]).abs().max() for name in w)}
    >>> MaxMove(lambda_max=2.0).penalty({"a": torch.ones(3)}, {"a": torch.zeros(3)})
    {'max': tensor(2.)}
    """

    compares: ClassVar[Literal["nothing", "embeddings", "layers", "weights"]] = "weights"

    @abstractmethod
    def penalty(
        self, w: "Mapping[str, Tensor]", w0: "Mapping[str, Tensor]", constants: "Constants" = NOTHING
    ) -> "dict[str, Tensor]":
        """The weighted terms by name; `w`, `w0` are the moving and the frozen weights of the encoder, by name."""

    def terms(self, batch: TrainingBatch) -> "dict[str, Tensor]":
        assert batch.frozen is not None
        w, w0 = dict(batch.model.encoder.named_parameters()), dict(batch.frozen.encoder.named_parameters())
        return self.penalty(w, w0, batch.constants)
