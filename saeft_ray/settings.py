"""What sections of a sweep file are made of, and the sections that lower rooms read: model, training, SAE, compute."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from saeft_ray.errors import UserError

MOST = 10_000  # seeds, trials and others of which a plan lists every one
LARGEST = 2**63 - 1
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Few = Annotated[int, Field(ge=1, le=MOST)]
Width = Annotated[int, Field(ge=1, le=2**20)]
Pixels = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def _of_pixels(value: float) -> float:
    if not 0 <= value <= 1:
        divided = f", and is written {value / 255:.4g} then" if 1 < value <= 255 else ""
        raise UserError(f"found {value:g}; pixels are scaled to 0…1, so it lies within these{divided}")
    return value


def _of_letters(text: str) -> str:
    if text != text.strip() or not text:
        why = "begins or ends with a blank; remove it" if text.strip() else "is empty; leave it out or give a name"
        raise UserError(f"found {text!r}, which {why}")
    return text


def _of_a_moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"found {text!r}, which is no time; give one such as 2027-01-31T08:00+01:00") from None
    if moment.tzinfo is None:
        raise UserError(f"found {text!r}, which says no zone; add its difference from UTC, +01:00 say, or Z for UTC")
    return text


Text = Annotated[str, AfterValidator(_of_letters)]
Shade = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_of_pixels)]
Spread = Annotated[Positive, AfterValidator(_of_pixels)]


class Section(BaseModel):
    """Settings that belong together: every key is known, typed and never changed, every number finite."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Range(Section):
    """Any number from `low` to `high`, searched on a log scale unless `log` is false."""

    low: Number
    high: Number
    log: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise UserError(f"low = {self.low:g} is not below high = {self.high:g}; give the smaller number as low")
        if self.log and self.low == 0:
            raise UserError("a range on a log scale cannot start at 0; give a low above 0, or log: false")
        return self


class Choices(Section):
    """One of a few numbers."""

    choices: Annotated[tuple[Number, ...], Field(strict=False, min_length=1)]


def _form(value: Any) -> str:
    if isinstance(value, Range) or (isinstance(value, dict) and "choices" not in value):
        return "range"
    return "choices" if isinstance(value, dict | Choices) else "number"


# A number in the sweep file fixes the value; a range or a list of choices leaves it open.
Tunable = Annotated[
    Annotated[Number, Tag("number")] | Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")],
    Discriminator(_form),
]


def highest(value: "float | Range | Choices") -> float:
    """The largest number that `value` can become."""
    if isinstance(value, Range):
        return value.high
    return max(value.choices) if isinstance(value, Choices) else value


def lowest(value: "float | Range | Choices") -> float:
    """The smallest number that `value` can become."""
    if isinstance(value, Range):
        return value.low
    return min(value.choices) if isinstance(value, Choices) else value


class Preprocessing(NamedTuple):
    """How a picture becomes what a model sees, in open_clip's words; the defaults are OpenAI's, and open_clip's own.

    `shortest` brings the shorter side to size and cuts the rest off, `longest` the longer and fills the rest with
    `fill_color`, `squash` both sides, whatever the shape.
    """

    mean: tuple[Shade, Shade, Shade] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[Spread, Spread, Spread] = (0.26862954, 0.26130258, 0.27577711)
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    fill_color: int = 0


USUAL = Preprocessing()


class Model(Section):
    """An open_clip model. `pretrained`: a tag of open_clip, a file, an fsspec URL, `shipped` (weights in this package)
    or `random` (initialised from seed 0); left out for `arch: hf-hub:NAME` and `local-dir:FOLDER`, which bring theirs.

    The other settings are those of the tag, of the folder, or for other weights what all tags of the architecture
    agree on; what is given here overrides them.
    """

    arch: Text
    """An architecture of open_clip, `hf-hub:NAME`, `local-dir:FOLDER`, or `digit-clip`."""
    pretrained: Text | None = None
    mean: Annotated[tuple[Shade, Shade, Shade], Field(strict=False)] | None = None
    std: Annotated[tuple[Spread, Spread, Spread], Field(strict=False)] | None = None
    """Mean and deviation that normalise pixels in [0, 1]."""
    resize_mode: Literal["shortest", "longest", "squash"] | None = None
    """How a picture becomes a square: its centre, with borders, or squashed."""
    interpolation: Literal["bicubic", "bilinear"] | None = None
    """How pixels are drawn from a larger or smaller picture."""
    image_size: Pixels | None = None
    """Pixels; where weights were trained at another size, their position embeddings are interpolated to this one."""

    @model_serializer(mode="wrap")
    def _the_tags_own_goes_unsaid(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is not given, so that sweeps from before there was a choice keep their identity."""
        dumped: dict[str, Any] = handler(self)
        new = ("resize_mode", "interpolation", "image_size")
        return {name: value for name, value in dumped.items() if value is not None or name not in new}


class Train(Section):
    """One recipe for every method, so that methods differ in their penalty alone."""

    epochs: Few
    """Passes over the training images."""
    batch_size: Count = 128
    """Images of a step, over all workers."""
    lr: Positive = 1e-5
    """The highest learning rate, after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Of AdamW."""
    warmup: Share = 0.1
    """Share of all steps over which the learning rate rises; it falls to 0 on a cosine afterwards."""
    clip_norm: Positive = 1.0
    """The largest norm of a step's gradient."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a label that goes to the other classes."""
    views: Few | None = None
    """Size of each image's pool of views; default: as many as epochs."""
    cache_gb: Annotated[float, Field(ge=0, le=10**9)] = 50.0
    """Frozen activations are stored up to this size; beyond it each step runs the frozen encoder as well."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: the image encoder runs under bf16 autocast, in training as in evaluation and where it is frozen, so that
    moving and frozen embeddings round alike; weights, optimizer, head, losses and penalties stay in float32."""

    @model_serializer(mode="wrap")
    def _plain_goes_unsaid(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `precision` where it is fp32, so that sweeps from before there was a choice keep their identity."""
        dumped: dict[str, Any] = handler(self)
        return {name: value for name, value in dumped.items() if (name, value) != ("precision", "fp32")}


def is_of_torch(place: str) -> bool:
    """Whether `place` names a file of torch, as the reference saves its SAEs."""
    return place.lower().endswith((".pt", ".pth"))


class DictionarySettings(Section):
    """The sparse autoencoder (SAE) and, with the same sizes, its controls.

    `recipe: reference` trains as the paper's code does: AdamW with decay 0.01 at a constant rate, untied encoder, no
    initial bias, atoms of any length, no auxiliary loss, and where the file does not say otherwise signed `topk` and
    100 epochs.

    `from` takes a ready SAE for the trained one: a .pt file of the reference or a folder of SAELens, by path or URL.
    """

    model_config = ConfigDict(serialize_by_alias=True, use_attribute_docstrings=True)

    source: Text | None = Field(default=None, alias="from")
    width: Width = 2048
    """Atoms."""
    k: Width = 32
    """Atoms that are active on an image."""
    activation: Literal["relu_topk", "topk", "batch_topk"] = "relu_topk"
    """The k largest pre-activations of each image, where positive or even if negative; or k per image on average."""
    input: Literal["unit", "raw"] = "unit"
    recipe: Literal["corrected", "reference"] = "corrected"
    """`reference` trains as the paper's code does."""
    steps: Count = 5000
    """Optimizer steps."""
    epochs: Count | None = None
    """In the place of `steps` where given."""
    batch_size: Count = 1024
    """Embeddings of a step."""
    lr: Positive = 1e-3
    """Learning rate."""
    aux: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1 / 32
    """Weight of the auxiliary loss by which dead atoms learn what the live ones leave."""
    dead_after: Count = 50_000
    """Views without activation after which an atom counts as dead."""
    seeds: Few = 1
    """Dictionaries of each kind; confirm seed i reads number i modulo this, so that no claim is about one draw."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_recipe(cls, value: Any) -> Any:
        """Fills what the file leaves open as the reference has it, in its recipe and in its own files."""
        if not isinstance(value, Mapping):
            return value
        if value.get("recipe") == "reference":
            return {"activation": "topk", "aux": 0.0, **({} if "steps" in value else {"epochs": 100}), **value}
        return {"activation": "topk", **value} if is_of_torch(str(value.get("from"))) else value

    @model_validator(mode="after")
    def _k_is_known(self) -> Self:
        if self.source and "k" not in self.model_fields_set:
            raise UserError("k is missing; with `from` it must be given, since files of SAEs do not always hold it")
        return self


class Compute(Section):
    """How trials run. It never changes what they compute, beyond the rounding of sums in another order.

    The batch of `train` is the whole one: `workers` and `accumulate` say into how many parts it is split.
    """

    workers: Few = 1
    """Processes that train one trial together."""
    cpus: Few = 1
    """CPUs of each."""
    gpus: Annotated[float, Field(ge=0, le=MOST)] = 0
    """GPUs of each."""
    concurrent: Few | None = None
    """Trials at once; default: as many as the resources hold."""
    loaders: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Processes per worker that render images ahead: for training, evaluation and frozen embeddings."""
    accumulate: Count = 1
    """Micro-batches into which each worker splits its share of the batch, one in memory at a time."""
    checkpoint_activations: bool = False
    """Compute the outputs of transformer blocks anew in the backward pass: less memory, more time."""
    compile: bool = False
    """torch.compile for the training step. Methods that read blocks inside the encoder train without it."""
    address: str | None = None
    """A running Ray cluster; default: the one that RAY_ADDRESS or `ray up` names, else a Ray of our own here."""
    checkpoint_minutes: Annotated[float, Field(ge=0, le=10**6)] = 2.0
    """Minutes between two checkpoints of a trial."""
    max_hours: Annotated[float, Field(gt=0, le=10**6)] | None = None
    """Hours for which the sweep may be driven, over all its runs; then trials save checkpoints and it ends early."""
    deadline: Annotated[str, AfterValidator(_of_a_moment)] | None = None
    """When the sweep ends early in the same way: a time in ISO 8601 with its zone, such as 2027-01-31T08:00+01:00."""
