"""One trial as a value: its method, seed and phase, and the name that follows from them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from saeft_ray.config.schema import AnyMethod
from saeft_ray.methods import Method
from saeft_ray.records.rows import Phase, Row
from saeft_ray.storage.fingerprint import canonical, fingerprint


class TrialSpec(BaseModel):
    """One configuration with one seed in one phase: all that a trial needs in addition to its sweep's config.

    `base` are the settings of the method that a derived one starts from. `number` counts the suggestions of a method's
    search, the seeds of a phase otherwise. `cutoffs` are pairs of an epoch and the least selection accuracy with which
    the trial goes on after it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    phase: Phase
    method: str
    settings: AnyMethod
    base: AnyMethod | None = None
    seed: int | None
    number: int
    cutoffs: Annotated[tuple[tuple[int, float], ...], Field(strict=False)] = ()

    @property
    def configuration(self) -> str:
        """The hash of the method and its values, whatever the seed and phase."""
        return fingerprint([self.method, self.values], 10)

    @property
    def values(self) -> dict[str, Any]:
        """The settings, and those of the base, as JSON."""
        base: dict[str, Any] = {"base": self.base.model_dump(mode="json")} if self.base else {}
        return {**self.settings.model_dump(mode="json"), **base}

    @property
    def trained(self) -> Method | None:
        """The method whose training this trial evaluates: its own or its base's; None for the frozen model."""
        return self.base or (self.settings if self.settings.trains else None)

    @property
    def base_trial(self) -> str | None:
        """The name of the trial whose end point this one starts from; None for a method that is not derived."""
        if self.base is None or self.settings.base is None:
            return None
        return self.model_copy(update={"method": self.settings.base, "settings": self.base, "base": None}).id

    @property
    def id(self) -> str:
        """The name of the trial: the same run has the same name on any machine and after any restart."""
        # A search may suggest the same values twice; those are two trials.
        key = [self.phase, self.method, self.values, self.seed, self.number if self.phase == "search" else None]
        return f"{self.phase}-{self.method}-{fingerprint(key, 10)}"

    def row(self, sweep: str, dataset: str, role: str, metric: str, value: float | None, **more: Any) -> Row:
        """A row of this trial's results; `more` are fields of Row."""
        return Row(
            sweep=sweep,
            phase=self.phase,
            method=self.method,
            configuration=self.configuration,
            settings=canonical(self.values),
            seed=self.seed,
            trial=self.id,
            dataset=dataset,
            role=role,
            metric=metric,
            value=value,
            **more,
        )
