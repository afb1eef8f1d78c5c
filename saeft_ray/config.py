"""The form of a sweep file: one frozen section a concern, each setting with its bounds and its default."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias, Union

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

import saeft_ray.datasets
import saeft_ray.methods
from saeft_ray.datasets import Dataset
from saeft_ray.methods import Method
from saeft_ray.registry import discover

METHODS = discover(saeft_ray.methods, Method)
DATASETS = discover(saeft_ray.datasets, Dataset)  # type: ignore[type-abstract]

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Storage(Section):
    """Where everything is kept: any fsspec URL. Credentials come from the environment, never from here."""

    url: str = "./runs"
    endpoint: str | None = None


class Model(Section):
    """An open_clip model. `pretrained`: a tag of open_clip, a file, an fsspec URL, `shipped` (weights in this package)
    or `random` (initialised from the sweep's seed)."""

    arch: str
    pretrained: str
    mean: Annotated[tuple[float, float, float], Field(strict=False)] | None = None
    std: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)] | None = None
    """What pixels in [0, 1] are normalised by; default: what open_clip knows of the tag, OpenAI's for a file."""


class Train(Section):
    """One recipe for every method, so that methods differ in their penalty alone."""

    epochs: Count
    batch_size: Count = 128
    lr: Positive = 1e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    warmup: Share = 0.1
    """Share of all steps over which the learning rate rises; it falls to 0 on a cosine afterwards."""
    clip_norm: Positive = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    views: Count | None = None
    """Size of each image's pool of views; default: as many as epochs."""
    cache_gb: Annotated[float, Field(ge=0)] = 50.0
    """Frozen activations are stored up to this size; beyond it each step runs the frozen encoder as well."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: the image encoder runs under bf16 autocast, in training as in evaluation and where it is frozen, so that
    moving and frozen features round alike; weights, optimizer, head, losses and penalties stay in float32."""

    @model_serializer(mode="wrap")
    def _plain_goes_unsaid(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `precision` where it is fp32, so that sweeps from before there was a choice keep their identity."""
        dumped: dict[str, Any] = handler(self)
        return {name: value for name, value in dumped.items() if (name, value) != ("precision", "fp32")}


class DictionarySettings(Section):
    """The sparse autoencoder (SAE) and, with the same sizes, its controls.

    `recipe: reference` trains as the paper's code does: AdamW with decay 0.01 at a constant rate, untied encoder, no
    initial bias, atoms of any length, no auxiliary loss, and where the file does not say otherwise signed `topk` and
    100 epochs.

    `from` takes a ready SAE for the trained one: a .pt file of the reference or a folder of SAELens, by path or URL.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    source: str | None = Field(default=None, alias="from")
    width: Count = 2048
    k: Count = 32
    activation: Literal["relu_topk", "topk", "batch_topk"] = "relu_topk"
    """The k largest pre-activations of each image, where positive or even if negative; or k an image on average."""
    input: Literal["unit", "raw"] = "unit"
    recipe: Literal["corrected", "reference"] = "corrected"
    steps: Count = 5000
    epochs: Count | None = None
    """In the place of `steps` where given."""
    batch_size: Count = 1024
    lr: Positive = 1e-3
    aux: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1 / 32
    """Weight of the auxiliary loss by which dead atoms learn what the live ones leave."""
    dead_after: Count = 50_000
    """Views without activation after which an atom counts as dead."""
    seeds: Count = 1
    """Dictionaries of each kind; confirm seed i reads number i modulo this, so that no claim is about one draw."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_recipe(cls, value: Any) -> Any:
        """What the file leaves open is as the reference has it, in its recipe and in its own files."""
        if not isinstance(value, Mapping):
            return value
        if value.get("recipe") == "reference":
            return {"activation": "topk", "aux": 0.0, **({} if "steps" in value else {"epochs": 100}), **value}
        return {"activation": "topk", **value} if str(value.get("from")).endswith((".pt", ".pth")) else value

    @model_validator(mode="after")
    def _k_is_known(self) -> Self:
        if self.source and "k" not in self.model_fields_set:
            raise ValueError("k is missing; with `from` it must be given, since files of SAEs do not always hold it")
        return self


class Search(Section):
    """Optuna's search of the open values, on the selection split alone, with one budget for every method."""

    trials: Count = 16
    early_stopping: Literal["none", "asha"] = "none"


class Rerank(Section):
    """The best configurations of the search again, with fresh seeds."""

    top: Count = 3
    seeds: Count = 3


class Until(Section):
    """Seeds at the first look and at the last."""

    min: Annotated[int, Field(ge=3)] = 5
    max: Count = 20

    @model_validator(mode="after")
    def _max_is_beyond_min(self) -> Self:
        if self.max <= self.min:
            raise ValueError(
                f"max = {self.max} is not beyond min = {self.min}; give a larger max, or one number of seeds"
            )
        return self


def _number_or_range(value: Any) -> str:
    return "range" if isinstance(value, Mapping | Until) else "number"


class Confirm(Section):
    """The chosen configuration of every method with seeds never used before; only here are test sets opened.

    `seeds` is a number, or {min, max}: then methods run until decided, with a look after every seed from `min` on, and
    a decided method gets `overrun` more seeds.
    """

    seeds: Annotated[
        Annotated[Count, Tag("number")] | Annotated[Until, Tag("range")], Discriminator(_number_or_range)
    ] = 5
    engine: Literal["t", "exact", "anytime"] = "t"
    overrun: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _overrun_has_an_end_to_run_over(self) -> Self:
        if self.overrun and self.until is None:
            raise ValueError(
                f"overrun = {self.overrun} with a fixed number of seeds; give seeds: {{min, max}} or no overrun"
            )
        return self

    @property
    def until(self) -> Until | None:
        """The range of seeds where methods run until decided; None for a fixed number."""
        return self.seeds if isinstance(self.seeds, Until) else None

    @property
    def most(self) -> int:
        """Seeds that a method can get."""
        return self.seeds.max if isinstance(self.seeds, Until) else self.seeds


class Report(Section):
    baseline: str = "ft"
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    margin: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Accuracy difference (a fraction) within which methods count as equivalent; declared before the runs."""
    compare: Annotated[tuple[Annotated[tuple[str, str], Field(strict=False)], ...], Field(strict=False)] = ()
    """Further pairs [method, against] to test, as a family of their own."""
    variance: Literal["own", "pooled"] = "own"
    """`pooled`: the comparisons with the baseline share one spread, where no method's is over twice another's."""
    lines: dict[str, Annotated[tuple[float, float], Field(strict=False)]] = {}
    """For effective robustness: the line of standard models of an OOD set, [slope, intercept] in logits."""


class Compute(Section):
    """How trials run. It never changes what they compute, beyond the rounding of sums in another order.

    The batch of `train` is the whole one: `workers` and `accumulate` say into how many parts it is split.
    """

    workers: Count = 1
    cpus: Count = 1
    gpus: Annotated[float, Field(ge=0)] = 0
    concurrent: Count | None = None
    """Trials at once; default: as many as the resources hold."""
    loaders: Annotated[int, Field(ge=0)] = 0
    """Processes a worker that render images ahead: of the training step, of evaluation, of frozen features."""
    accumulate: Count = 1
    """Micro-batches into which each worker splits its share of the batch, one in memory at a time."""
    checkpoint_activations: bool = False
    """What blocks of a transformer give is computed anew in the backward pass, not kept: less memory, more time."""
    compile: bool = False
    """torch.compile for the training step. Methods that read blocks inside the encoder train without it."""
    address: str | None = None
    """A running Ray cluster; default: the one that RAY_ADDRESS or `ray up` names, else a Ray of our own here."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 2.0


def _labelled(value: Any) -> Any:
    """A method's `type` is its label unless it says otherwise."""
    if not isinstance(value, Mapping):
        return value
    return {
        label: {"type": label, **(settings or {})} if isinstance(settings, Mapping | None) else settings
        for label, settings in value.items()
    }


def _one_of(classes: Mapping[str, type[Any]]) -> Any:
    """A union of `classes`, told apart by `type`."""
    tagged = tuple(Annotated[cls, Tag(name)] for name, cls in classes.items())
    return Annotated[Union[tagged], Discriminator(_type_of)]  # noqa: UP007 - built at run time


def _type_of(value: Any) -> Any:
    return value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)


if TYPE_CHECKING:
    AnyDataset: TypeAlias = Dataset
    AnyMethod: TypeAlias = Method

else:
    AnyDataset, AnyMethod = _one_of(DATASETS), _one_of(METHODS)

Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class SweepConfig(Section):
    """One sweep file, validated."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$")]
    storage: Annotated[Storage, BeforeValidator(lambda v: {"url": v} if isinstance(v, str) else v)] = Storage()
    seed: Annotated[int, Field(ge=0)] = 0
    model: Model
    data: AnyDataset
    train: Train
    dictionary: DictionarySettings = DictionarySettings()
    methods: Annotated[dict[Label, AnyMethod], BeforeValidator(_labelled), Field(min_length=1)]
    search: Search = Search()
    rerank: Rerank = Rerank()
    confirm: Confirm = Confirm()
    report: Report = Report()
    compute: Compute = Compute()

    @property
    def views(self) -> int:
        return self.train.views or self.train.epochs

    def science(self) -> dict[str, Any]:
        """Everything that determines the results; where and how the sweep runs is left out."""
        return self.model_dump(mode="json", exclude={"storage", "compute"})
