"""Methods without a penalty: the frozen model, plain fine-tuning, and interpolation between the two."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from saeft_ray.methods import Method
from saeft_ray.settings import Range, Tunable, highest

if TYPE_CHECKING:
    from saeft_ray.model.encoder import Classifier


class ZeroShot(Method):
    """The frozen model with its text head (Radford et al. 2021). Deterministic: one trial, no seed."""

    type: Literal["zero_shot"] = "zero_shot"
    about: ClassVar[str] = "The model as it came, with a head made of the class words: nothing is trained."
    family: ClassVar[str] = "frozen"
    trains: ClassVar[bool] = False


class FineTuning(Method):
    """Cross-entropy alone, all image-encoder and head weights."""

    type: Literal["ft"] = "ft"
    about: ClassVar[str] = (
        "Plain fine-tuning: cross-entropy on the training images changes all weights of the image encoder and the head."
    )


class WiseFT(Method):
    """(1 - alpha) · frozen + alpha · fine-tuned weights of method `of`, head included (Wortsman et al. 2022, eq. 1)."""

    type: Literal["wise_ft"] = "wise_ft"
    about: ClassVar[str] = "The average of the frozen weights and those of a fine-tuned method, whose share is alpha."
    family: ClassVar[str] = "interpolation"
    trains: ClassVar[bool] = False
    of: str = "ft"
    alpha: Tunable = 0.5

    @property
    def base(self) -> str:
        return self.of

    def problems(self) -> list[str]:
        if isinstance(self.alpha, Range):
            return ["alpha cannot be a range, since every value is evaluated; give a list of choices"]
        return ["alpha is a share: give numbers from 0 to 1"] if highest(self.alpha) > 1 else []

    def finish(self, tuned: "Classifier", frozen: "Callable[[], Classifier]") -> "Classifier":
        from saeft_ray.model.interpolate import interpolate

        assert isinstance(self.alpha, float)
        return interpolate(frozen(), tuned, self.alpha)
