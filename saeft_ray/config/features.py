"""The section `features`: what is recorded of the changes inside the model, and the files that it names."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from saeft_ray.config.feature_files import read_labels, read_words
from saeft_ray.errors import UserError
from saeft_ray.settings import Section


def _given_as(value: Any) -> str:
    return "list" if isinstance(value, list | tuple) else "file"


Words = Annotated[
    Annotated[tuple[str, ...], Field(strict=False), Tag("list")] | Annotated[str, Field(min_length=1), Tag("file")],
    Discriminator(_given_as),
]


class Features(Section):
    """Which features fine-tuning added and removed, found after the confirm phase.

    It determines no training and stands outside the sweep's identity; `alpha` and `least` are registered before the
    first confirm trial.
    """

    mode: Literal["off", "summary", "full"] = "off"
    words: Words | None = None
    """What features may be named after, besides the classes: a list, or a text file with a word per line."""
    labels: str | None = None
    """A CSV file that says what is on the images: the columns `image`, `attribute` and maybe `set`."""
    sets: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    """The sets whose images are looked at; default, and what `all` means: every test set."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    least: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The least change of a feature that counts, as a share: 0.1 is a tenth more or less."""
    stability: Annotated[int, Field(ge=0)] = 3
    """Other SAE seeds in which the features are looked for; 0: none."""

    @property
    def on(self) -> bool:
        return self.mode != "off"

    def of(self, test_sets: Iterable[str]) -> tuple[str, ...]:
        """The sets of these whose images are looked at."""
        return self.sets or tuple(test_sets)

    def problems(self) -> Iterator[str]:
        """What is wrong with the files that the section names, each problem with its dotted place."""
        files: tuple[tuple[str, Words | None, Callable[[str], object]], ...] = (
            ("words", self.words, read_words),
            ("labels", self.labels, read_labels),
        )
        for place, path, read in files:
            if self.on and isinstance(path, str):
                try:
                    read(path)
                except UserError as error:
                    yield f"features.{place}: {error}"


def _short_form(value: Any) -> Any:
    """`features: full` for `features: {mode: full}`; false, which other YAML makes of `off`, is off. A section without
    a mode is a summary: whoever gives words wants it."""
    if value is False:
        value = "off"
    if isinstance(value, Mapping):
        return {"mode": "summary", **value}
    return value if isinstance(value, Features) else {"mode": value}


def _sets(value: Any) -> Any:
    return {**value, "sets": None} if isinstance(value, Mapping) and value.get("sets") == "all" else value


FeaturesSection = Annotated[Features, BeforeValidator(lambda value: _sets(_short_form(value)))]
