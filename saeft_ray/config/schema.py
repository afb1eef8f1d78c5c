"""The form of a sweep file: one frozen section a concern, each setting with its bounds and its default."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias, Union

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

import saeft_ray.datasets
import saeft_ray.methods
from saeft_ray.config.choose import Rule, Rules
from saeft_ray.config.features import Features, FeaturesSection
from saeft_ray.config.known import unknown
from saeft_ray.config.registry import discover
from saeft_ray.datasets import Dataset
from saeft_ray.errors import UserError
from saeft_ray.methods import Method
from saeft_ray.settings import LARGEST, MOST, Compute, DictionarySettings, Few, Model, Section, Text, Train

METHODS = discover(saeft_ray.methods, Method, "saeft_ray.methods")
DATASETS = discover(saeft_ray.datasets, Dataset, "saeft_ray.datasets")  # type: ignore[type-abstract]


class Storage(Section):
    """Where everything is kept: any fsspec URL. Credentials come from the environment, never from here."""

    url: str = "./runs"
    """A folder, or s3://bucket/folder; every machine must see it."""
    endpoint: Text | None = None
    """The S3 server, where it is not the one that AWS_ENDPOINT_URL names."""


class Search(Section):
    """Optuna's search of the open values, on the selection split alone, with one budget for every method."""

    trials: Few = 16
    """Configurations that are tried for each method with open values."""
    repeats: Few = 1
    """Whole searches of each method, rerank included, that share the seeds of `confirm`: error bars of the tuning. What
    is derived from another method, such as an alpha, is chosen once."""
    lag: Few = 2
    """Trials of each method that can run at once: suggestion n is made from the results of those up to n − lag."""
    early_stopping: Literal["none", "asha"] = "none"
    """`asha` stops after epochs 1, 2, 4, … a trial below the median of those up to n − lag that got there."""


class Rerank(Section):
    """The best configurations of the search again, with fresh seeds."""

    top: Few = 3
    """Configurations of each method that are tried again."""
    seeds: Few = 3
    """Seeds of each."""


class Until(Section):
    """Seeds at the first look and at the last."""

    min: Annotated[Few, Field(ge=3)] = 5
    """Seeds at the first look."""
    max: Few = 20
    """Seeds at the last look."""

    @model_validator(mode="after")
    def _max_is_beyond_min(self) -> Self:
        if self.max <= self.min:
            raise UserError(
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
        Annotated[Few, Tag("number")] | Annotated[Until, Tag("range")], Discriminator(_number_or_range)
    ] = 5
    engine: Literal["t", "exact", "anytime"] = "t"
    """What decides at a look: the t test, an exact sign test, or one that is valid at any time."""
    overrun: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Seeds that a decided method gets beyond its look."""
    draw: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    """Another number gives seeds that no sweep of another draw has used."""
    choices: Literal["chosen", "tied"] = "chosen"
    """`tied`: the seeds are dealt over all configurations that the rerank cannot tell from the chosen one."""

    @model_validator(mode="after")
    def _overrun_has_an_end_to_run_over(self) -> Self:
        if self.overrun and self.until is None:
            raise UserError(
                f"overrun = {self.overrun} with a fixed number of seeds; give seeds: {{min, max}} or no overrun"
            )
        return self

    @property
    def until(self) -> Until | None:
        """The range of seeds where methods run until decided; None for a fixed number."""
        return self.seeds if isinstance(self.seeds, Until) else None

    @property
    def max_seeds(self) -> int:
        """Seeds that a method can get."""
        return self.seeds.max if isinstance(self.seeds, Until) else self.seeds


class Curves(Section):
    """Every method with lambdas again over a path of strengths: its chosen lambdas times factors on a log scale."""

    points: Annotated[Few, Field(ge=3)] = 5
    """Strengths of each method; with an odd number the chosen one is in the middle."""
    seeds: Annotated[Few, Field(ge=2)] = 5
    """Seeds of each strength: the first ones of `confirm`."""
    span: Annotated[float, Field(gt=1, le=1000)] = 10.0
    """The largest factor, and by its inverse the least one."""


class ReportSettings(Section):
    baseline: str = "ft"
    """The method that all others are compared with."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Error level of each family of comparisons."""
    margin: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Accuracy difference (a fraction) within which methods count as equivalent; declared before the runs."""
    compare: Annotated[tuple[Annotated[tuple[str, str], Field(strict=False)], ...], Field(strict=False)] = ()
    """Further pairs [method, against] to test, as a family of their own."""
    variance: Literal["own", "pooled"] = "own"
    """`pooled`: the comparisons with the baseline share one spread, where no method's is over twice another's."""
    lines: dict[str, Annotated[tuple[float, float], Field(strict=False)]] = {}  # noqa: RUF012 - pydantic copies it
    """For effective robustness: the line of standard models of an OOD set, [slope, intercept] in logits."""

    def problems(self, methods: Iterable[str] | None, roles: Mapping[str, str] | None) -> Iterator[tuple[str, str]]:
        """The dotted place of each name that this sweep does not have, and its words. `methods` are the sweep's labels
        and `roles` its test sets, None for those that are not known."""
        if methods is not None:
            if self.baseline not in methods:
                yield "report.baseline", unknown("method", self.baseline, methods)
            for index, pair in enumerate(self.compare):
                for label in pair:
                    if label not in methods:
                        yield f"report.compare.{index}", unknown("method", label, methods)
        for index, pair in enumerate(self.compare):
            if pair[0] == pair[1]:
                yield f"report.compare.{index}", f"{pair[0]!r} is compared with itself"
            if any(set(pair) == set(other) for other in self.compare[:index]):
                yield f"report.compare.{index}", f"{' and '.join(pair)} are compared twice; give each pair once"
        if self.lines and roles is not None:
            ood = [name for name, role in roles.items() if role == "ood"]
            for name in self.lines:
                if name not in ood:
                    yield f"report.lines.{name}", unknown("OOD set", name, ood)
            if len(ood) == len(roles):
                yield "report.lines", "these data have no ID test set, from whose accuracy a line starts; delete lines"


def _labelled(value: Any) -> Any:
    """A method's `type` is its label unless it says otherwise."""
    if not isinstance(value, Mapping):
        return value
    return {
        label: {"type": label, **(settings or {})} if isinstance(settings, Mapping | None) else settings
        for label, settings in value.items()
    }


def _one_of(classes: Mapping[str, type[Any]]) -> Any:
    """A union of `classes`, distinguished by `type`."""
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
    """Its folder is STORAGE/sweeps/NAME."""
    storage: Annotated[Storage, BeforeValidator(lambda v: {"url": v} if isinstance(v, str) else v)] = Storage()
    seed: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    """All random draws follow from it."""
    model: Model
    data: AnyDataset
    train: Train
    dictionary: DictionarySettings = DictionarySettings()
    methods: Annotated[dict[Label, AnyMethod], BeforeValidator(_labelled), Field(min_length=1)]
    """What is compared: a label, and below it the settings of a method."""
    search: Search = Search()
    rerank: Rerank = Rerank()
    choose: Rules = (Rule(),)
    """How a configuration is chosen after search and rerank; with several rules, each confirms its own choice."""
    confirm: Confirm = Confirm()
    curves: Curves | None = None
    """Compare at equal strength, too: each method at several; without it, no such comparison."""
    report: ReportSettings = ReportSettings()
    features: FeaturesSection = Features()
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _seeds_are_dealt_in_one_way(self) -> Self:
        if self.dealt and self.confirm.until:
            raise UserError(
                f"{self.dealt} deals the seeds of confirm over several configurations, and confirm.seeds is a range; "
                "the looks of a range hold for one configuration: give confirm.seeds one number"
            )
        if self.search.repeats > self.confirm.max_seeds:
            raise UserError(
                f"search.repeats = {self.search.repeats} searches take turns over confirm.seeds = "
                f"{self.confirm.max_seeds}, so that some would have none; give at least as many seeds as repeats"
            )
        if self.search.repeats > 1 and self.confirm.choices == "tied":
            raise UserError(
                "search.repeats and confirm.choices: tied both say over what the seeds of confirm are dealt; give one"
            )
        return self

    @model_validator(mode="after")
    def _data_lie_where_the_sweep_does(self) -> Self:
        self.__dict__["data"] = self.data.at(self.storage.endpoint)  # frozen for everybody else
        return self

    @property
    def views(self) -> int:
        return self.train.views or self.train.epochs

    @property
    def dealt(self) -> str:
        """The setting that deals the seeds of `confirm` over several configurations of a method; empty for none."""
        if self.search.repeats > 1:
            return f"search.repeats = {self.search.repeats}"
        return "confirm.choices = tied" if self.confirm.choices == "tied" else ""

    def determining_settings(self) -> dict[str, Any]:
        """Everything that determines the results; where and how the sweep runs, and what is looked at afterwards, are
        left out."""
        return self.model_dump(mode="json", exclude={"storage", "compute", "features"})
