"""Data sets: one file (or folder) a family, found by being here.

A family is a frozen pydantic model with a `type: Literal["name"] = "name"` and the settings that the sweep file gives
under `data:`. It imports torch only inside `split`, so that a plan can be made where no torch is installed.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

from saeft_ray.draws import IntArray
from saeft_ray.storage.location import Location
from saeft_ray.storage.retry import WAITS, Waits

if TYPE_CHECKING:
    import torch

Role = Literal["selection", "id", "ood"]


class Split(Protocol):
    """The images of one split, in a fixed order."""

    labels: IntArray  # (N,) class indices
    order: str  # SHA-256 of the ordered example ids: bits of two trials pair only if these agree
    counts_as: IntArray | None = None
    """(C,) the class that a prediction of each class counts as on this split, -1 for those that it does not hold and
    that are therefore never predicted; None if it holds every class."""

    def images(self, index: IntArray) -> "torch.Tensor":
        """Images under the evaluation transform, uint8 (B, 3, H, W)."""
        ...

    def views(self, index: IntArray, view: IntArray, seed: int) -> "torch.Tensor":
        """View number `view[i]` of image `index[i]`, uint8 (B, 3, H, W): a pure function of its arguments."""
        ...

    def measures(self, predicted: IntArray) -> dict[str, float]:
        """Metrics beside accuracy that the data set's authors define, by name, of (N,) predicted classes."""
        return {}


class NotSeen(str):
    """A problem that a plan can live with: data that cannot be looked into from here."""


class Dataset(BaseModel, ABC):
    """Where images, labels and words come from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    _endpoint: str | None = PrivateAttr(None)  # where a sweep runs is no setting of its data, and in no hash
    _waits: Waits = PrivateAttr(WAITS)

    def at(self, endpoint: str | None, waits: Waits = WAITS) -> Self:
        """The same data, with what lies on S3 read from the server `endpoint` (None: as the environment says)."""
        made = self.model_copy()
        for name in made.__dict__.keys() - type(self).model_fields.keys():  # what was found from elsewhere
            del made.__dict__[name]
        made._endpoint, made._waits = endpoint, waits
        return made

    @property
    def waits(self) -> Waits:
        """How long a server that is away or refuses is asked again."""
        return self._waits

    def location(self, place: str) -> Location:
        """The folder `place` of the settings, as it is opened."""
        return Location(place, self._endpoint, self._waits)

    @abstractmethod
    def class_names(self) -> Sequence[str]:
        """One name a class, in label order."""

    @abstractmethod
    def prompts(self) -> Sequence[str]:
        """Templates of the zero-shot head; "{}" stands for the class name."""

    @abstractmethod
    def test_sets(self) -> dict[str, Role]:
        """The test sets by name, in report order, each `id` or `ood`."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Number of images of every split: `train`, `selection` and the test sets."""

    @abstractmethod
    def split(self, name: str, image_size: int) -> Split:
        """One of `train`, `selection` or a test set, rendered at `image_size` pixels."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of everything that determines the images, labels and their order."""

    def train_fingerprint(self) -> str:
        """The same of the training images alone, so that another test set leaves what was trained in its place."""
        return self.fingerprint()

    def problems(self) -> list[str]:
        """What is wrong with the data, in words, found without reading all of it; empty if nothing.

        After nothing worse than NotSeen, `sizes` and `fingerprint` answer with what was published.
        """
        return []
