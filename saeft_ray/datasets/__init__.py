"""Data sets: one file (or folder) per family, found by being here.

A family is a frozen pydantic model with a `type: Literal["name"] = "name"` and the settings that the sweep file gives
under `data:`. It imports torch only inside `split`, so that a plan can be made where no torch is installed.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

from saeft_ray.draws import IntArray
from saeft_ray.settings import Preprocessing
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.location import Location
from saeft_ray.storage.retry import WAITS, Waits

if TYPE_CHECKING:
    import torch

Role = Literal["selection", "id", "ood", "diagnostic"]
"""What a split is for: `selection` chooses values, `id` tests what is like training, `ood` a shift. A `diagnostic` set
says what was learned: its scores are shown, and enter no mean and no verdict."""


class Split(Protocol):
    """The images of one split, in a fixed order. N images, C classes of the data set.

    >>> import numpy as np, torch
    >>> class Grey(Split):
    ...     labels = np.array([0, 1, 1])
    ...     example_order = "grey 1"
    ...     def images(self, index):
    ...         return torch.full((len(index), 3, 8, 8), 127, dtype=torch.uint8)
    ...     def views(self, index, view, seed):
    ...         return self.images(index) + torch.from_numpy(view).to(torch.uint8)[:, None, None, None]
    >>> some = Subset(Grey(), np.array([2, 0]))
    >>> some.labels.tolist(), some.views(np.array([1]), np.array([3]), 0).unique().tolist()
    ([1, 0], [130])
    """

    labels: IntArray
    """(N,) class indices."""
    example_order: str
    """A hash of the ordered names of the images: single images of two trials are paired only if these agree."""
    class_groups: IntArray | None = None
    """(C,) the class that a prediction of each class counts as on this split, -1 for those that it does not hold and
    that are therefore never predicted; None if it holds every class."""

    def images(self, index: IntArray) -> "torch.Tensor":
        """Images under the evaluation transform.

        Arguments:
            index: (B,) positions from 0 to N - 1.

        Returns uint8 (B, 3, H, W), H and W in pixels. Raises UserError for an image that cannot be read.
        """
        ...

    def views(self, index: IntArray, view: IntArray, seed: int) -> "torch.Tensor":
        """Views for training: a pure function of its arguments, so that a resumed training sees the same.

        Arguments:
            index: (B,) positions from 0 to N - 1.
            view: (B,) the number of the view of each, from 0.
            seed: names the draws; one per sweep.

        Returns uint8 (B, 3, H, W), H and W in pixels. Raises UserError for an image that cannot be read.
        """
        ...

    def extra_metrics(self, predicted: IntArray) -> dict[str, float]:
        """Metrics in addition to accuracy that the data set's authors define, by name, of (N,) predicted classes."""
        return {}


class Subset(Split):
    """The images of `split` at the positions `index` (n,), in that order."""

    def __init__(self, split: Split, index: IntArray) -> None:
        self._split, self._index = split, index
        self.labels, self.class_groups = split.labels[index], split.class_groups
        self.example_order = fingerprint([split.example_order, index.tolist()])

    def images(self, index: IntArray) -> "torch.Tensor":
        return self._split.images(self._index[index])

    def views(self, index: IntArray, view: IntArray, seed: int) -> "torch.Tensor":
        return self._split.views(self._index[index], view, seed)


class NotSeen(str):
    """A problem that a plan can live with: data that cannot be looked into from here."""


class Dataset(BaseModel, ABC):
    """Where images, labels and words come from: a frozen pydantic model whose fields are its settings under `data:`.

    >>> from typing import Literal
    >>> class Two(Dataset):
    ...     type: Literal["two"] = "two"
    ...     per_class: int = 4
    ...     def class_names(self): return ["cat", "dog"]
    ...     def prompts(self): return ["a photo of a {}."]
    ...     def test_sets(self): return {"test": "id"}
    ...     def sizes(self): return dict.fromkeys(("train", "selection", "test"), 2 * self.per_class)
    ...     def split(self, name, image_size): raise NotImplementedError("a Split, as above")
    ...     def fingerprint(self): return fingerprint(self.model_dump())
    >>> Two(per_class=3).sizes()["train"], Two().problems()
    (6, [])
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
    _endpoint: str | None = PrivateAttr(None)  # where a sweep runs is not a setting of its data, and in no hash
    _waits: Waits = PrivateAttr(WAITS)
    _preprocessing: Preprocessing = PrivateAttr(Preprocessing())  # the model's, and in the model's identity

    def at(self, endpoint: str | None, waits: Waits = WAITS) -> Self:
        """The same data, with what lies on S3 read from the server `endpoint` (None: as the environment says)."""
        made = self.model_copy()
        for name in made.__dict__.keys() - type(self).model_fields.keys():  # what was found from elsewhere
            del made.__dict__[name]
        made._endpoint, made._waits = endpoint, waits
        return made

    def prepared(self, preprocessing: Preprocessing) -> Self:
        """The same data, with pictures brought to size as `preprocessing` says; what was found of it is kept."""
        made = self.model_copy()
        made._preprocessing = preprocessing
        return made

    @property
    def preprocessing(self) -> Preprocessing:
        """What the model wants done to pictures. Mean and deviation are not the data's concern: pictures stay uint8."""
        return self._preprocessing

    @property
    def waits(self) -> Waits:
        """How long a server that is away or refuses is asked again."""
        return self._waits

    def location(self, place: str) -> Location:
        """The folder `place` of the settings, as it is opened."""
        return Location(place, self._endpoint, self._waits)

    @abstractmethod
    def class_names(self) -> Sequence[str]:
        """One name per class, in label order."""

    def class_folders(self) -> dict[str, int]:
        """The label of each name that a folder of a class may have: the class's own, or with "_" for a space. Of a name
        that two classes share, there is none."""
        names = list(self.class_names())
        own = {name: label for label, name in enumerate(names) if names.count(name) == 1}
        return {name.replace(" ", "_"): label for name, label in own.items()} | own

    @abstractmethod
    def prompts(self) -> Sequence[str]:
        """Templates of the zero-shot head; "{}" is replaced by the class name."""

    @abstractmethod
    def test_sets(self) -> dict[str, Role]:
        """The test sets by name, in report order, each `id`, `ood` or `diagnostic`."""

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

    def test_fingerprints(self) -> dict[str, str]:
        """By name, a hash of the images of each test set alone, the same in another data set that has it."""
        whole = self.fingerprint()
        return {name: f"{whole} {name}" for name in self.test_sets()}

    def about(self) -> dict[str, str]:
        """A sentence for each split that says what its images are, and one for `views`, the augmentation; for reports.
        What has none is left out."""
        return {}

    def search_fingerprint(self) -> str:
        """The same of the images for training and selection, which the search sees: where it stays, test images that
        were not opened yet may be mended."""
        return self.fingerprint()

    def contents(self) -> dict[str, str]:
        """By split, a hash of what its images hold, as far as `images.content.content` reads them; empty if the
        fingerprint knows all of it. It is in no identity, and is compared when a sweep resumes."""
        return {}

    def problems(self) -> list[str]:
        """Sentences about what is wrong with the data, found without reading all of it; empty if nothing.

        After nothing worse than NotSeen, `sizes` and `fingerprint` answer with what was published.
        """
        return []

    def notes(self) -> list[str]:
        """Sentences about what a user should know of data without problems: what was passed over, for example."""
        return []
