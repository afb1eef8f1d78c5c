"""The section `choose`: the rule by which search and rerank choose a configuration, from the selection split alone."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from saeft_ray.settings import Section


class Rule(Section):
    """`best`: the highest accuracy. `strongest_within`: of all that are within `se` standard errors of the best, the
    one that stays nearest the frozen model (least KL of its answers). `keep_gain`: the nearest of all that keep `share`
    of what plain fine-tuning gains over zero-shot. docs/statistics.md 3.12 defines them.
    """

    rule: Literal["best", "strongest_within", "keep_gain"] = "best"
    """How the configuration is chosen."""
    se: Annotated[float, Field(ge=0, le=10)] = 2.0
    """Standard errors of the best accuracy that `strongest_within` gives away."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the gain that `keep_gain` keeps."""

    @property
    def in_words(self) -> str:
        """What it chooses, in words."""
        return {
            "best": "the best selection accuracy",
            "strongest_within": f"the strongest within {self.se:g} standard errors of the best selection accuracy",
            "keep_gain": f"the strongest that keeps {100 * self.share:g} % of plain fine-tuning's gain over zero-shot",
        }[self.rule]


_NUMBER = {"strongest_within": "se", "keep_gain": "share"}
"""What a number alone is, as in `keep_gain: 0.5`."""


def _each(value: Any) -> Any:
    """Rules as a file gives them: a name, {name: its settings}, or a list of these."""
    return [_one(each) for each in value] if isinstance(value, list | tuple) else [_one(value)]


def _one(value: Any) -> Any:
    if isinstance(value, str):
        return {"rule": value}
    if isinstance(value, Mapping) and len(value) == 1 and "rule" not in value:
        ((name, settings),) = value.items()
        if not isinstance(settings, Mapping | None):
            settings = {_NUMBER.get(name, name): settings}
        return {"rule": name, **(settings or {})}
    return value


Rules = Annotated[tuple[Rule, ...], Field(strict=False, min_length=1), BeforeValidator(_each)]


def is_dealt(settings: Mapping[str, Any]) -> bool:
    """Whether the confirm seeds of a sweep with these settings, as its record has them, are dealt over several
    configurations of a method."""
    confirm, search = (settings.get(section) or {} for section in ("confirm", "search"))
    return confirm.get("choices") == "tied" or search.get("repeats", 1) > 1


def arm_of(label: str, rule: Rule) -> str:
    """The name of the configuration that `rule`, not the first one of its sweep, chose for the method `label`."""
    return f"{label}_{rule.rule}"
