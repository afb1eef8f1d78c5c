"""The sweep file: its form, its reading, and every mistake in it at once (DESIGN, contract 8)."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)

import saeft_ray.datasets
import saeft_ray.methods
from saeft_ray.datasets import Dataset
from saeft_ray.methods import Method
from saeft_ray.methods.sparse import CodePenalty
from saeft_ray.registry import discover
from saeft_ray.yaml_text import Loader

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


class Compute(Section):
    """How trials run. It never changes what they compute."""

    workers: Count = 1
    cpus: Count = 1
    gpus: Annotated[float, Field(ge=0)] = 0
    concurrent: Count | None = None
    """Trials at once; default: as many as the resources hold."""
    loaders: Annotated[int, Field(ge=0)] = 0
    """Processes a worker that render views ahead of the training step."""
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
    from saeft_ray.datasets import Dataset as AnyDataset
    from saeft_ray.methods import Method as AnyMethod

    __all__ = ["AnyDataset", "AnyMethod", "SweepConfig", "load", "parse"]
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


Mistake = tuple[str, str]  # (dotted place, what was found and what is allowed)


def load(path: str) -> SweepConfig:
    """The sweep file at `path`. Raises ValueError that lists every mistake, each with its dotted place."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a text file ({error})") from error
    return parse(text, path)


def parse(text: str, source: str = "sweep file") -> SweepConfig:
    """`load` for a text at hand; `source` names it in messages."""
    try:
        raw = yaml.load(text, Loader)  # noqa: S506 - Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{source}: {place}{error.problem or error.context}; this is not valid YAML") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: {error}; this is not valid YAML") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{source}: a sweep file is a map of sections; found {type(raw).__name__}")
    config, mistakes = None, []
    try:
        config = SweepConfig.model_validate(raw)
        sections = {name: getattr(config, name) for name in SweepConfig.model_fields}
    except ValidationError as error:
        mistakes = [_mistake(detail, raw) for detail in error.errors(include_url=False)]
        sections = _valid_sections(raw)
    mistakes += [*_contradictions(sections)]
    if mistakes or config is None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        lines = "".join(f"\n  {place}: {words}" if place else f"\n  {words}" for place, words in mistakes)
        raise ValueError(f"{source}: {count}{lines}")
    return config


def _contradictions(sections: Mapping[str, Any]) -> Iterator[Mistake]:
    """Mistakes between sections that are each valid; sections with mistakes of their own are not in `sections`."""
    methods: Mapping[str, Method] | None = sections.get("methods")
    train: Train | None = sections.get("train")
    compute: Compute | None = sections.get("compute")
    dictionary: DictionarySettings | None = sections.get("dictionary")
    report: Report | None = sections.get("report")
    for label, method in (methods or {}).items():
        for words in method.problems():
            yield f"methods.{label}", words
        if methods and method.base is not None:
            base = methods.get(method.base)
            if base is None or not base.trains:
                trained = [name for name, other in methods.items() if other.trains]
                yield (
                    f"methods.{label}.of",
                    f"{method.base!r} is no method of this sweep that trains; {_allowed(trained)}",
                )
    if methods and report:
        if report.baseline not in methods:
            yield "report.baseline", _unknown("method", report.baseline, methods)
        for index, pair in enumerate(report.compare):
            for label in pair:
                if label not in methods:
                    yield f"report.compare.{index}", _unknown("method", label, methods)
            if pair[0] == pair[1]:
                yield f"report.compare.{index}", f"{pair[0]!r} is compared with itself"
    if train and compute and train.batch_size % compute.workers:
        yield (
            "compute.workers",
            f"{compute.workers} workers cannot share train.batch_size = {train.batch_size} evenly; give a divisor",
        )
    for label, method in (methods or {}).items():
        if compute and compute.workers > 1 and not method.batch_mean:
            yield (
                f"methods.{label}",
                f"its loss is no mean over the batch, so compute.workers = {compute.workers} would change it; "
                "give one worker",
            )
        preset = isinstance(method, CodePenalty) and method.preset == "paper"
        if dictionary and preset and (dictionary.input, dictionary.activation) != ("raw", "topk"):
            yield (
                f"methods.{label}.preset",
                f"found dictionary.input {dictionary.input} and dictionary.activation {dictionary.activation}; "
                "the published lambdas hold for raw and topk: set both, or give lambdas of your own",
            )
    if dictionary and dictionary.k > dictionary.width:
        yield (
            "dictionary.k",
            f"k = {dictionary.k} atoms cannot be active among width = {dictionary.width}; give a smaller k",
        )
    if compute and compute.gpus and compute.gpus != int(compute.gpus) and compute.workers > 1:
        yield "compute.gpus", f"{compute.gpus:g}: several workers need whole GPUs each"


def _valid_sections(raw: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, field in SweepConfig.model_fields.items():
        annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        try:
            if name in raw:
                found[name] = TypeAdapter(annotation).validate_python(raw[name])
            elif not field.is_required():
                found[name] = field.default
        except ValidationError:
            continue
    return found


def _mistake(detail: Any, raw: Mapping[str, Any]) -> Mistake:
    """One pydantic error in our words."""
    loc, kind, found = _dotted(detail["loc"], raw), detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return loc, _unknown("key", str(detail["loc"][-1]), _keys(detail["loc"][:-1]))
    if kind == "missing":
        return loc, "is missing; a sweep file must give it"
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        known = METHODS if loc.startswith("methods") else DATASETS
        given = found.get("type") if isinstance(found, Mapping) else None
        if given is None:
            return loc, f"found {_short(found)}; give a map with a type, {_allowed(known)}"
        return loc, _unknown("type", str(given), known)
    if kind == "string_pattern_mismatch":
        return (
            loc,
            f"found {_short(found)}; allowed: letters, digits and _, beginning with a letter (names become folders)",
        )
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return loc, message
    hint = "; it is text: remove the quotes" if isinstance(found, str) and "number" in message else ""
    return loc, f"found {_short(found)}; {message[:1].lower()}{message[1:]}{hint}"


def _dotted(loc: Sequence[str | int], raw: Any) -> str:
    """`loc` without pydantic's union tags: parts that are not in the file, save the last."""
    parts, here = [], raw
    for index, part in enumerate(loc):
        if part == "[key]":
            continue
        inside = isinstance(here, Mapping) and part in here
        if inside or (isinstance(here, list) and isinstance(part, int)):
            here = here[part]
            parts.append(str(part))
        elif index == len(loc) - 1 and part not in {"number", "range", "choices"} | METHODS.keys() | DATASETS.keys():
            parts.append(str(part))
    return ".".join(parts)


def _keys(loc: Sequence[str | int]) -> list[str]:
    """The keys that the section at `loc` may have."""
    annotation: Any = SweepConfig
    for part in loc:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and part in annotation.model_fields:
            annotation = annotation.model_fields[str(part)].annotation
        elif part in METHODS and loc[0] == "methods":
            annotation = METHODS[str(part)]
        elif part in DATASETS and loc[0] == "data":
            annotation = DATASETS[str(part)]
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    fields = annotation.model_fields.items() if is_section else ()
    return [field.alias or name for name, field in fields if name != "type"]


def _unknown(what: str, name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"unknown {what} {name!r}" + (f", did you mean {close[0]!r}?" if close else "") + f"; {_allowed(known)}"


def _allowed(names: Any) -> str:
    return "allowed: " + (", ".join(names) or "none")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
