"""Values that a sweep file may leave open for the search to choose."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Range(BaseModel):
    """Any number from `low` to `high`, searched on a log scale unless `log` is false."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    low: Number
    high: Number
    log: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}; give the smaller number as low")
        if self.log and self.low == 0:
            raise ValueError("a range on a log scale cannot start at 0; give a low above 0, or log: false")
        return self


class Choices(BaseModel):
    """One of a few numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

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
