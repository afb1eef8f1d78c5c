"""The section `features`: what is recorded of the changes inside the model, and the files that it names."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from saeft_ray.config.feature_files import read_labels, read_words
from saeft_ray.config.known import unknown
from saeft_ray.errors import UserError
from saeft_ray.settings import Section

MOST_WORDS = 20_000
LONGEST = 300  # characters of a word
_UNSHOWN = {"Cc", "Cs"}  # Unicode's categories of controls and of halves of characters


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
    """The sets whose images are looked at; default, and what `all` means: every test set that is not diagnostic.
    `selection` may be named too; it is not looked at unasked, for hyperparameters were chosen on it and its images are
    like those of training, so that in the numbers of all sets together they would hide what happens on shifts."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    least: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The least change of a feature that counts, as a share: 0.1 is a tenth more or less."""
    stability: Annotated[int, Field(ge=0, le=100)] = 3
    """Other SAE seeds in which the features are looked for; 0: none."""

    @property
    def on(self) -> bool:
        return self.mode != "off"

    def of(self, test_sets: Mapping[str, str]) -> tuple[str, ...]:
        """The sets whose images are looked at; `test_sets` are those of the data with their roles."""
        return self.sets or tuple(name for name, role in test_sets.items() if role != "diagnostic")

    def problems(self, known: Sequence[str] | None) -> Iterator[tuple[str, str]]:
        """The dotted place of each mistake and its words: sets that the data do not have or that stand there twice, and
        files that cannot be read. `known`: the sets of the data, None if those are not known."""
        for index, name in enumerate(self.sets or ()):
            if known is not None and name not in known:
                yield f"features.sets.{index}", unknown("set", name, known)
            if name in (self.sets or ())[:index]:
                yield f"features.sets.{index}", f"{name!r} stands there twice; its images would count twice"
        if self.on:
            yield from self._mistakes_in_words()
            yield from self._mistakes_in_labels(known)

    def _mistakes_in_words(self) -> Iterator[tuple[str, str]]:
        try:
            words = read_words(self.words) if isinstance(self.words, str) else self.words or ()
        except UserError as error:
            yield "features.words", str(error)
            return
        if len(words) > MOST_WORDS:
            yield (
                "features.words",
                f"{len(words):,} words; at most {MOST_WORDS:,}, for the text tower reads each in three texts, and each "
                "is compared with every image: give those that could say what is on the images",
            )
        for index, word in enumerate(words):
            if len(word) > LONGEST:
                yield (
                    f"features.words.{index}",
                    f"{word[:20]!r}… has {len(word):,} characters; at most {LONGEST}: give a word or a phrase",
                )
            elif any(unicodedata.category(each) in _UNSHOWN and not each.isspace() for each in word):
                yield f"features.words.{index}", f"{word!r} holds characters that cannot be shown; give letters"

    def _mistakes_in_labels(self, known: Sequence[str] | None) -> Iterator[tuple[str, str]]:
        if self.labels is None:
            return
        try:
            lines = read_labels(self.labels)
        except UserError as error:
            yield "features.labels", str(error)
            return
        first: dict[str, int] = {}
        for line in lines:
            first.setdefault(line.set, line.number)
        for name, number in first.items():
            if name and known is not None and name not in known:
                yield "features.labels", f"{self.labels}, line {number}: {unknown('set', name, known)}"


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
